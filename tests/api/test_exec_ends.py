"""How a command ends: with its own exit code, with nothing left of it, and told truly."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

import pytest
from aiohttp import WSMsgType

from service.api import exec_socket, jobs
from service.api.call import SERVICE, Call
from service.api.exec import EXIT_CODE
from service.api.exec_socket import CLOSE, ERROR, RESIZE, STDIN, STDOUT
from service.domain.events import ExecOpened
from tests.api.test_exec import Room, exit_code, room
from tests.api.yard import ADMIN, OPERATOR
from tests.supervisor.lab import shell
from tests.support.waiting import until
from tests.support.websocket import single_minded

__all__ = ["room"]


async def test_a_command_that_closes_its_streams_keeps_its_exit_code(room: Room) -> None:
    answer = await room.get("sh", "-c", "exec >&- 2>&-; sleep 1; exit 3")
    assert (answer.status, answer.headers[EXIT_CODE]) == (200, "3")


async def test_many_at_once_keep_their_exit_codes(room: Room) -> None:
    answers = await asyncio.gather(*(room.get("sh", "-c", f"exit {n}") for n in range(1, 41)))
    assert [each.headers[EXIT_CODE] for each in answers] == [str(n) for n in range(1, 41)]


@pytest.mark.parametrize("size", [500_000, 20_000_000])
async def test_a_command_that_leaves_its_input_unread_is_told_as_soon_as_any(room: Room, size: int) -> None:
    socket = await room.open(*shell("head -c 4; exit 3"), stdin=True)

    async def feed() -> None:
        with suppress(ConnectionError):
            for _ in range(size // 50_000):
                await socket.say(STDIN, b"y\n" * 25_000)

    feeding = asyncio.create_task(feed())
    heard, status = await socket.end()
    await feeding
    assert (heard[STDOUT], exit_code(status)) == (b"y\ny\n", 3)


async def test_who_still_sends_is_heard_out_after_the_end(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that is let go with input on its way is reset, and the exit code could be lost with it."""
    monkeypatch.setattr(exec_socket, "AGREE_S", 60.0)
    socket = await room.open(*shell("exit 3"), stdin=True, autoclose=False)
    status = None
    async with asyncio.timeout(20):
        while (message := await socket.raw.receive()).type is WSMsgType.BINARY:
            if message.data[0] == ERROR:
                status = json.loads(message.data[1:])
        assert (message.type, exit_code(status)) == (WSMsgType.CLOSE, 3)
        for _ in range(400):  # more than any buffer between the two holds
            await socket.say(STDIN, b"y\n" * 25_000)
        await socket.raw.close()


async def test_a_client_that_reads_only_when_it_has_written_is_told_as_well(room: Room) -> None:
    words = urlencode([("command", word) for word in shell("head -c 4; exit 3")] + [("stdin", "true")])
    headers = {
        "Authorization": f"Bearer {room.yard.tokens[OPERATOR]}",
        "Sec-WebSocket-Protocol": exec_socket.PROTOCOLS[0],
    }
    with single_minded(room.yard.url, f"{room.path}?{words}", headers) as client:
        async with asyncio.timeout(30):
            frames = await asyncio.to_thread(client.write_then_read, bytes([STDIN]) + b"y\n" * 25_000, 400)
    assert frames[-1] == (WSMsgType.CLOSE, (1000).to_bytes(2, "big"))
    told = [data for kind, data in frames if kind is WSMsgType.BINARY and data[0] == ERROR]
    assert [exit_code(json.loads(each[1:])) for each in told] == [3]
    assert b"".join(data[1:] for kind, data in frames if data[:1] == bytes([STDOUT])) == b"y\ny\n"


@pytest.mark.parametrize("tty", [False, True])
@pytest.mark.parametrize(
    "how",
    [
        "sleep 4242 & sleep 4242",
        "set -m; sleep 4242 & sleep 4242",
        "trap '' HUP TERM; sleep 4242 & sleep 4242",
    ],
)
async def test_what_a_command_began_ends_with_its_client(room: Room, how: str, tty: bool) -> None:
    socket = await room.open("sh", "-c", how, tty=tty)

    async def both() -> bool:
        return (await room.processes()).count("sleep 4242\n") >= 2

    async def none() -> bool:
        return "sleep 4242\n" not in await room.processes()

    await until(both)
    await socket.raw.close()
    await until(none)
    found = await room.lab.engine.find(room.container)
    assert found is not None
    assert found.state == "running"  # the job's own process is none of what is ended


async def test_a_container_that_has_ended_meanwhile_is_the_wrong_state(room: Room) -> None:
    await room.lab.engine.stop(room.container, 1)
    answer = await room.get("true")
    assert (answer.status, answer.json["code"]) == (400, "wrong-state"), answer.raw
    await room.lab.engine.remove(room.container)
    answer = await room.get("true")
    assert (answer.status, answer.json["code"]) == (400, "wrong-state"), answer.raw


async def test_a_command_that_is_removed_with_its_container(room: Room) -> None:
    running = asyncio.create_task(room.get("sleep", "4242"))

    async def there() -> bool:
        return "sleep 4242" in await room.processes()

    await until(there)
    await room.lab.engine.remove(room.container, force=True)
    answer = await running
    assert answer.status in (200, 400), answer.raw


async def test_input_that_waits_is_no_dead_client(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    # A client that is there may be late by this much itself: both live in one loop.
    monkeypatch.setattr("service.api.exec_socket.HEARTBEAT_S", 1.0)
    socket = await room.open("sh", "-c", "sleep 5; wc -c", stdin=True)
    count = 8 * 1024**2

    async def feed() -> None:
        for _ in range(count // 65536):
            await socket.say(STDIN, b"x" * 65536)
        await socket.say(CLOSE, bytes([STDIN]))

    feeding = asyncio.create_task(feed())
    heard, status = await socket.end()
    await asyncio.gather(feeding, return_exceptions=True)
    assert status is not None, socket.raw.close_code
    assert (int(heard[STDOUT]), exit_code(status)) == (count, 0)


async def test_a_size_that_comes_first_is_the_terminals(room: Room) -> None:
    for width in range(101, 106):
        comes = f'until [ "$(stty size 2>/dev/null)" = "33 {width}" ]; do sleep 0.1; done; stty size'
        socket = await room.open("sh", "-c", comes, tty=True)
        await socket.say(RESIZE, b'{"Width": %d, "Height": 33}' % width)
        heard, _ = await socket.end()
        assert heard[STDOUT].split() == [b"33", b"%d" % width]


async def test_the_same_key_twice_is_two_events(room: Room) -> None:
    """Else whoever repeats a key could run a command that the ledger does not know."""
    before = await room.yard.head()
    for _ in range(2):
        params = [("command", "echo"), ("command", "x")]
        answer = await room.yard.call("GET", room.path, params=params, headers={"Idempotency-Key": "k"})
        assert (answer.status, answer.raw) == (200, b"x\n")
    events = await room.yard.ledger.events(before, limit=10)
    assert [type(event.body) for event in events] == [ExecOpened, ExecOpened]


async def test_a_stream_that_is_cut_holds_no_second_answer(room: Room) -> None:
    token_id = await room.yard.token("ci", OPERATOR)
    host, _, port = room.yard.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    words = urlencode([("command", word) for word in shell("head -c 9000000 /dev/zero; sleep 4242")])
    head = f"GET {room.path}?{words} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {room.yard.tokens['ci']}"
    writer.write(f"{head}\r\n\r\n".encode())
    received = bytearray()
    async with asyncio.timeout(20):
        while received.count(b"\0") < 9_000_000:
            received += await reader.read(1 << 20)
        assert (await room.yard.call("DELETE", f"/v1/token/{token_id}", token=ADMIN)).status == 204
        with suppress(ConnectionError):
            received += await reader.read()
    writer.close()
    assert received.count(b"HTTP/1.1") == 1
    assert not received.endswith(b"0\r\n\r\n"), "it looks whole"


async def test_a_client_that_answers_nothing_is_gone(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.api.exec_socket.HEARTBEAT_S", 0.1)
    host, _, port = room.yard.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    words = urlencode([("command", "sleep"), ("command", "4243")])
    lines = [
        f"GET {room.path}?{words} HTTP/1.1",
        f"Host: {host}",
        f"Authorization: Bearer {room.yard.tokens[OPERATOR]}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol: v4.channel.k8s.io",
    ]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    async with asyncio.timeout(20):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        with suppress(ConnectionError):
            await reader.read()  # pings, and then the end

    async def gone() -> bool:
        return "sleep 4243" not in await room.processes()

    await until(gone)
    writer.close()


async def test_a_token_revoked_on_the_way_runs_nothing(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """After it was let in, and before anything could tell the open command that it must end."""
    token_id = await room.yard.token("ci", OPERATOR)
    seen = jobs.seen

    async def revoked_meanwhile(call: Call) -> Any:
        found = await seen(call)
        assert (await room.yard.call("DELETE", f"/v1/token/{token_id}", token=ADMIN)).status == 204
        await room.yard.app[SERVICE].watch.look()
        return found

    monkeypatch.setattr(jobs, "seen", revoked_meanwhile)
    before = await room.yard.head()
    assert (await room.get("true", token="ci")).status == 401
    events = await room.yard.ledger.events(before, limit=10)
    assert ExecOpened not in [type(event.body) for event in events]

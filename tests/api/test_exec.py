"""Commands in a job's container: over plain HTTP and over a websocket, in a real container."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import aiohttp
import pytest
from aiohttp import WSMsgType
from structlog.testing import capture_logs

from service.api import jobs
from service.api.call import SERVICE, Call
from service.api.exec import EXIT_CODE, MOST_HELD_BYTES, TOO_MUCH
from service.api.exec_socket import CLOSE, ERROR, PROTOCOLS, RESIZE, STDERR, STDIN, STDOUT
from service.domain.events import ExecOpened
from service.supervisor.engine.docker import DockerEngine
from tests.api.yard import ADMIN, OPERATOR, READER, Supervision, Yard
from tests.images import import_busybox, make_network, remove_network
from tests.supervisor.lab import RUNS_ON, Lab, shell
from tests.support.waiting import until

V5, V4 = PROTOCOLS


@dataclass
class Room:
    """A job that is RUNNING in a real container."""

    yard: Yard
    lab: Lab
    supervision: Supervision
    job: str
    container: str

    @property
    def path(self) -> str:
        return f"/v1/job/{self.job}/exec"

    async def get(self, *words: str, token: str = OPERATOR, **more: Any) -> Any:
        params = [("command", word) for word in words] + [(k, str(v).lower()) for k, v in more.items()]
        return await self.yard.call("GET", self.path, token=token, params=params)

    async def open(
        self, *words: str, protocol: str = V5, token: str = OPERATOR, autoclose: bool = True, **more: Any
    ) -> Socket:
        params = [("command", word) for word in words] + [(k, str(v).lower()) for k, v in more.items()]
        headers = {"Authorization": f"Bearer {self.yard.tokens[token]}"}
        made = await self.yard.http.ws_connect(
            f"{self.yard.url}{self.path}",
            params=params,
            headers=headers,
            protocols=(protocol,),
            autoclose=autoclose,
        )
        return Socket(made)

    async def processes(self) -> str:
        """What runs in the container."""
        answer = await self.get("ps")
        assert answer.status == 200
        return str(answer.raw.decode())


@dataclass
class Socket:
    """A client of the sub-protocol."""

    raw: aiohttp.ClientWebSocketResponse

    async def say(self, channel: int, data: bytes) -> None:
        await self.raw.send_bytes(bytes([channel]) + data)

    async def hear(self, text: bytes) -> bytes:
        """Output, until a text was in it."""
        heard = b""
        async with asyncio.timeout(20):
            while text not in heard:
                message = await self.raw.receive()
                assert message.type is WSMsgType.BINARY, message
                assert message.data[0] in (STDOUT, STDERR), message
                heard += message.data[1:]
        return heard

    async def end(self) -> tuple[dict[int, bytes], Any]:
        """Everything to the end: output by channel, and the status."""
        heard: dict[int, bytes] = {STDOUT: b"", STDERR: b""}
        status = None
        async with asyncio.timeout(20):
            async for message in self.raw:
                assert message.type is WSMsgType.BINARY, message
                channel, data = message.data[0], message.data[1:]
                if channel == ERROR:
                    status = json.loads(data)
                else:
                    heard[channel] += data
        return heard, status


def exit_code(status: Any) -> int:
    """As Kubernetes' clients find it."""
    if status["status"] == "Success":
        return 0
    assert status["reason"] == "NonZeroExitCode"
    (cause,) = status["details"]["causes"]
    assert cause["reason"] == "ExitCode"
    return int(cause["message"])


@pytest.fixture
async def room(
    yard: Yard, supervision: Supervision, parts: None, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Room]:
    # The engine may have much to do beside.
    monkeypatch.setattr("service.supervisor.engine.exec.RECORDED_S", 60.0)
    import_busybox()
    network = f"jobyard-test-exec-{yard.url.rpartition(':')[2]}"
    make_network(network)
    lab = Lab(DockerEngine(), network)
    try:
        container = await lab.started(RUNS_ON, pids_limit=256)
        job = await yard.submit(labels={"team": "a"})
        await supervision.running(job["id"], container=container)
        yield Room(yard, lab, supervision, job["id"], container)
    finally:
        await lab.close()
        remove_network(network)


async def test_a_command_answers_its_output_and_exit_code(room: Room) -> None:
    answer = await room.get(*shell("echo out; id -u; exit 3"))
    assert (answer.status, answer.raw) == (200, b"out\n42420\n")
    assert answer.headers[EXIT_CODE] == "3"
    assert answer.headers["Content-Type"].startswith("text/plain")
    both = await room.get(*shell("echo out; echo err >&2"))
    assert sorted(both.raw.split()) == [b"err", b"out"]
    assert (await room.get(*shell("echo out; echo err >&2"), stderr=False)).raw == b"out\n"
    assert (await room.get(*shell("echo out; echo err >&2"), stdout=False)).raw == b"err\n"
    spaced = await room.get("printf", "[%s]", "a b", "", "é&=+%")
    assert spaced.raw.decode() == "[a b][][é&=+%]"
    missing = await room.get("no-such-program")
    assert missing.headers[EXIT_CODE] in ("126", "127")
    assert b"not found" in missing.raw


async def test_much_output_is_streamed(room: Room) -> None:
    size = MOST_HELD_BYTES + 5_000_000
    answer = await room.get(*shell(f"head -c {size} /dev/zero"))
    assert answer.status == 200
    assert len(answer.raw) == size
    assert EXIT_CODE not in answer.headers


async def test_what_clients_let_wait_of_their_output_is_bounded_in_sum(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The project that has the most loses its largest; what passes is whole. Of neither is anything left."""
    held = room.yard.app[SERVICE].parts.held
    monkeypatch.setattr(held, "_most", 3 * 2**20)
    waits = [asyncio.create_task(room.get(*shell("head -c 1000000 /dev/zero; sleep 600"))) for _ in range(2)]

    async def two_wait() -> bool:
        return held.bytes == 2_000_000

    await until(two_wait)
    whole = await room.get(*shell("head -c 500000 /dev/zero"))
    assert (whole.status, len(whole.raw), whole.headers[EXIT_CODE]) == (200, 500_000, "0")
    assert whole.headers["Content-Length"] == "500000"
    with capture_logs() as lines:
        with pytest.raises(aiohttp.ClientError):
            await room.get(*shell("head -c 1500000 /dev/zero; sleep 600"))
        await until(lambda: TOO_MUCH in [line.get("cut") for line in lines])
    assert held.bytes == 2_000_000
    for each in waits:
        each.cancel()

    async def nothing_is_left() -> bool:
        return held.bytes == 0

    await until(nothing_is_left)
    monkeypatch.undo()
    streamed = await room.get(*shell(f"head -c {MOST_HELD_BYTES + 1} /dev/zero"))
    assert (streamed.status, len(streamed.raw), held.bytes) == (200, MOST_HELD_BYTES + 1, 0)


async def test_what_has_been_sent_is_held_no_more_while_the_command_goes_on(room: Room) -> None:
    size = MOST_HELD_BYTES + 1
    params = [("command", word) for word in shell(f"head -c {size} /dev/zero; sleep 600")]
    headers = {"Authorization": f"Bearer {room.yard.tokens[OPERATOR]}"}
    async with room.yard.http.get(f"{room.yard.url}{room.path}", params=params, headers=headers) as answer:
        assert len(await answer.content.readexactly(size)) == size
        await until(lambda: room.yard.app[SERVICE].parts.held.bytes == 0)


async def test_every_exec_is_in_the_ledger_before_it_runs_and_its_words_are_sealed(room: Room) -> None:
    before = await room.yard.head()
    await room.get("echo", "s3cret-word")
    (event,) = await room.yard.ledger.events(before, limit=10)
    assert isinstance(event.body, ExecOpened)
    assert str(event.job) == room.job
    assert event.actor.startswith("token:")
    command = await room.yard.ledger.open_secret(event.body.command)
    assert json.loads(str(command)) == ["echo", "s3cret-word"]
    own = await room.yard.ledger.keys.ids_of_job(UUID(room.job))
    assert (event.body.command.key_id,) == own, "it goes with the job's key"
    async with room.yard.ledger.pool.acquire() as connection:
        query = "SELECT count(*) FROM events e WHERE e::text LIKE '%s3cret-word%'"
        assert await connection.fetchval(query) == 0


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_streams_and_exit_code_over_a_websocket(room: Room, protocol: str) -> None:
    socket = await room.open(*shell("echo out; echo err >&2; exit 7"), protocol=protocol)
    assert socket.raw.protocol == protocol
    heard, status = await socket.end()
    assert heard == {STDOUT: b"out\n", STDERR: b"err\n"}
    assert exit_code(status) == 7
    assert socket.raw.close_code == 1000
    _, status = await (await room.open("true", protocol=protocol)).end()
    assert exit_code(status) == 0


async def test_input_and_its_end(room: Room) -> None:
    socket = await room.open("cat", stdin=True)
    await socket.say(STDIN, b"one ")
    assert await socket.hear(b"one ") == b"one "
    await socket.say(STDIN, b"two")
    await socket.hear(b"two")
    await socket.say(CLOSE, bytes([STDIN]))
    _, status = await socket.end()
    assert exit_code(status) == 0


async def test_a_terminal_with_its_size(room: Room) -> None:
    socket = await room.open("sh", stdin=True, tty=True)
    await socket.say(RESIZE, b'{"Width": 101, "Height": 37}')
    await socket.say(STDIN, b"stty size; tty\n")
    assert b"/dev/pts/" in await socket.hear(b"/dev/pts/")
    await socket.say(RESIZE, b'{"Width": 55, "Height": 11}')
    await socket.say(STDIN, b"stty size\n")
    await socket.hear(b"11 55")
    await socket.say(STDIN, b"exit 9\n")
    _, status = await socket.end()
    assert exit_code(status) == 9


async def test_many_megabytes_pass_both_ways(room: Room) -> None:
    size, block = 8 * 1024**2, b"x" * 65536
    socket = await room.open("cat", stdin=True)

    async def feed() -> None:
        for _ in range(size // len(block)):
            await socket.say(STDIN, block)
        await socket.say(CLOSE, bytes([STDIN]))

    feeding = asyncio.create_task(feed())
    heard, status = await socket.end()
    await feeding
    assert len(heard[STDOUT]) == size
    assert exit_code(status) == 0


async def test_a_client_that_leaves_ends_its_command(room: Room) -> None:
    socket = await room.open(*shell("echo ready; exec sleep 7777"))
    await socket.hear(b"ready")
    assert "sleep 7777" in await room.processes()
    await socket.raw.close()

    async def gone() -> bool:
        return "sleep 7777" not in await room.processes()

    await until(gone)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await room.get("sleep", "8888")

    async def gone_too() -> bool:
        return "sleep 8888" not in await room.processes()

    await until(gone_too)


async def test_a_revoked_token_ends_what_it_has_open(room: Room) -> None:
    token_id = await room.yard.token("ci", OPERATOR)
    socket = await room.open("sleep", "6666", token="ci")
    asking = asyncio.create_task(room.get("sleep", "6667", token="ci"))

    async def both() -> bool:
        found = await room.processes()
        return "sleep 6666" in found and "sleep 6667" in found

    await until(both)
    assert (await room.yard.call("DELETE", f"/v1/token/{token_id}", token=ADMIN)).status == 204
    _, status = await socket.end()
    assert status is None
    assert socket.raw.close_code == 1008
    assert (await asking).status == 503

    async def neither() -> bool:
        found = await room.processes()
        return "sleep 6666" not in found and "sleep 6667" not in found

    await until(neither)


async def test_the_end_of_the_container_ends_the_command(room: Room) -> None:
    socket = await room.open("sh", "-c", "echo ready; sleep 5555")
    await socket.hear(b"ready")
    await room.lab.engine.stop(room.container, 1)
    _, status = await socket.end()
    assert exit_code(status) == 137


async def test_who_may_not_run_anything_here(room: Room) -> None:
    before = await room.yard.head()
    assert (await room.get("true", token=READER)).status == 403
    assert (await room.get("true", token="other")).status == 404
    await room.yard.token("scoped", OPERATOR, selector="team=b")
    assert (await room.get("true", token="scoped")).status == 404
    queued = await room.yard.submit()
    idle = await room.yard.call("GET", f"/v1/job/{queued['id']}/exec?command=true")
    assert (idle.status, idle.json["code"]) == (400, "wrong-state")
    assert "while it is RUNNING" in idle.json["message"]
    assert await room.yard.head() == before + 2  # the token and the job


async def test_a_job_that_leaves_the_tokens_scope_on_the_way_runs_nothing(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    label = f"/v1/job/{room.job}/label"
    assert (await room.yard.call("PUT", label, {"name": "team", "value": "a"})).status == 204
    await room.yard.token("scoped", OPERATOR, selector="team=a")
    assert (await room.get("true", token="scoped")).status == 200
    seen = jobs.seen

    async def overtaken(call: Call) -> Any:
        found = await seen(call)
        assert (await room.yard.call("PUT", label, {"name": "team", "value": "b"})).status == 204
        return found

    monkeypatch.setattr(jobs, "seen", overtaken)
    assert (await room.get("true", token="scoped")).status == 404


BAD: list[tuple[str, str]] = [
    ("", "command"),
    ("?command=", "command"),
    ("?command=a%00b", "command"),
    ("?command=a&tty=true", "tty"),
    ("?command=a&stdin=true", "stdin"),
    ("?command=a&stdin=maybe", "stdin"),
    ("?command=a&stdout=false&stderr=false", "stdout"),
    ("?" + "&".join(["command=a"] * 1025), "command"),
]


async def test_bad_parameters_are_named(room: Room) -> None:
    before = await room.yard.head()
    for query, field in BAD:
        answer = await room.yard.call("GET", room.path + query)
        if answer.status != 414:
            assert (answer.status, answer.json["field"]) == (400, field), (query[:40], answer.raw)
    assert (await room.yard.call("HEAD", room.path + "?command=true")).status == 200
    assert await room.yard.head() == before


async def test_sockets_that_are_refused(room: Room) -> None:
    before = await room.yard.head()
    headers = {"Authorization": f"Bearer {room.yard.tokens[OPERATOR]}"}
    url = f"{room.yard.url}{room.path}?command=true"
    for more, protocols, status in (
        ({}, (), 400),
        ({}, ("v3.channel.k8s.io",), 400),
        ({"Origin": "https://evil.example"}, (V4,), 403),
        ({"Authorization": "Bearer wrong"}, (V4,), 401),
    ):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await room.yard.http.ws_connect(url, headers=headers | more, protocols=protocols)
        assert refused.value.status == status
    assert await room.yard.head() == before
    same = headers | {"Origin": room.yard.url}
    async with room.yard.http.ws_connect(url, headers=same, protocols=(V4,)) as socket:
        assert socket.protocol == V4


@pytest.mark.parametrize(
    "message",
    [b"\x01x", b"\x09x", b"\xff\x01", b"\x04nonsense", b'\x04{"Width": 0, "Height": 1}', b"\x04[]", b""],
)
async def test_messages_that_are_refused_end_the_socket(room: Room, message: bytes) -> None:
    socket = await room.open("sleep", "4444", stdin=True)
    await socket.hear(b"")
    await socket.raw.send_bytes(message)
    await socket.end()
    assert socket.raw.close_code == 1003


async def test_text_and_input_that_was_not_asked_for_are_refused(room: Room) -> None:
    socket = await room.open("sleep", "4445")
    await socket.raw.send_str("hello")
    await socket.end()
    assert socket.raw.close_code == 1003
    silent = await room.open("sleep", "4446")
    await silent.say(STDIN, b"x")
    await silent.end()
    assert silent.raw.close_code == 1003
    old = await room.open("sleep", "4447", stdin=True, protocol=V4)
    await old.say(CLOSE, bytes([STDIN]))
    await old.end()
    assert old.raw.close_code == 1003

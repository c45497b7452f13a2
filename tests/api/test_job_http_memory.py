"""What all sockets to jobs hold of messages in the API's process: endless ones, and those nobody takes."""

from __future__ import annotations

import asyncio
import gc
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import WSCloseCode, WSMsgType
from structlog.testing import capture_logs

from service.api.job_http.weighing import TOO_MUCH, ClientSide
from service.held import Holding, Room
from tests.api.job_web import Web, saying, served
from tests.api.test_job_http_hostile import says
from tests.api.yard import ADMIN, READER, SPEC, Supervision, Yard, furnish, opened
from tests.supervisor.lab import Lab
from tests.support.waiting import until, until_no_months_end

MIB = 1024**2
MOST_BYTES = 48 * MIB
#: Of a message that does not end.
FRAGMENT = b"\x00\x7e" + struct.pack(">H", 1000) + bytes(1000)
FIRST = b"\x02\x01a"


class Watched(Room):
    """Remembers the most that was ever left in it."""

    most = 0
    cuts = 0

    def _make_way(self) -> None:
        self.cuts += 1
        super()._make_way()

    def count(self, holding: Holding, owner: str, count: int) -> None:
        super().count(holding, owner, count)
        self.most = max(self.most, self.bytes)


@pytest.fixture
async def room() -> Watched:
    return Watched(MOST_BYTES)


@pytest.fixture
async def yard(database: str, tmp_path: Path, room: Watched) -> AsyncIterator[Yard]:
    await until_no_months_end()
    async with opened(database, tmp_path, {}, held=room) as made:
        await furnish(made.ledger)
        for role in (ADMIN, "ai_training_operator", READER):
            await made.token(role, role)
        await made.token("other", ADMIN, project="other")
        yield made


@pytest.fixture
async def web(yard: Yard, supervision: Supervision, lab: Lab) -> Web:
    """A job that says what it is told to."""
    return await saying(yard, supervision, lab)


@pytest.fixture
async def neighbour(yard: Yard, supervision: Supervision, lab: Lab) -> Web:
    """Another project's job, which answers what it is sent."""
    container = await served(lab, 8080)
    answer = await yard.call("POST", "/v1/job", SPEC, token="other")
    assert answer.status == 200, answer.raw
    theirs = Supervision(yard, "other")
    await theirs.running(answer.json["id"], container=container)
    return Web(yard, theirs, lab, answer.json["id"], container)


async def greedy(web: Web, path: str = "", token: str = READER, **more: Any) -> Any:
    """A socket to the job of those who hold too much."""
    headers = {"Authorization": f"Bearer {web.yard.tokens[token]}"}
    path = path or says(b"", "hold")
    url = f"{web.yard.url}/job/{web.job}/socket{path}"
    return await web.yard.http.ws_connect(url, headers=headers, max_msg_size=0, **more)


def send_fragments(socket: Any, mib: int) -> None:
    """A message's beginning, so large, from the client's side: masked with nought, and without an end."""
    one = b"\x00\xff" + struct.pack(">Q", 65536) + bytes(4) + bytes(65536)
    socket._writer.transport.write(b"\x02\x81" + bytes(4) + b"a" + one * (mib * 16))


async def its_end(socket: Any) -> tuple[int | None, str]:
    message = await socket.receive()
    while message.type in (WSMsgType.BINARY, WSMsgType.TEXT):
        message = await socket.receive()
    return socket.close_code, str(message.extra)


async def holds(room: Room, least: int) -> None:
    async def enough() -> bool:
        return room.bytes >= least

    await until(enough)


async def is_empty(room: Room) -> None:
    async def nothing() -> bool:
        return room.bytes == 0

    await until(nothing)


async def echoed(neighbour: Web) -> None:
    """10 MiB both ways."""
    sent = bytes(range(256)) * (10 * 4096)
    async with await neighbour.socket(token="other", max_msg_size=0) as socket:
        await socket.send_bytes(sent)
        assert (await socket.receive()).data == sent


@pytest.mark.parametrize("side", ["client", "job"])
async def test_who_holds_most_loses_its_largest_and_neighbours_lose_nothing(
    web: Web, neighbour: Web, room: Watched, side: str
) -> None:
    sizes = (12, 4, 8, 6, 10, 2)
    sockets: dict[int, Any] = {}
    for size in sizes:  # one after the other, each as large as it is to be
        before = room.bytes
        path = "" if side == "client" else says(FIRST, f"much-{size}", FRAGMENT)
        sockets[size] = await greedy(web, path)
        if side == "client":
            send_fragments(sockets[size], size)
        await holds(room, before + int((size - 0.3) * MIB))
    assert room.bytes >= 40 * MIB
    with capture_logs() as lines:
        reading = {size: asyncio.create_task(its_end(socket)) for size, socket in sockets.items()}
        await echoed(neighbour)
        await asyncio.wait(reading.values(), return_when=asyncio.FIRST_COMPLETED)

        async def told() -> bool:
            return [line.get("cut") for line in lines].count(TOO_MUCH) == len(ended(reading))

        await until(told)
    cut = ended(reading)
    left = set(sizes) - cut
    assert cut and left and min(cut) > max(left), "the largest first, and no more than there must be"
    for size in cut:
        assert reading[size].result() == (WSCloseCode.TRY_AGAIN_LATER, TOO_MUCH)
    assert room.most <= MOST_BYTES
    for size in left:
        reading[size].cancel()
        sockets[size]._writer.transport.abort()
    await asyncio.gather(*reading.values(), return_exceptions=True)
    await is_empty(room)


def ended(reading: dict[int, asyncio.Task[Any]]) -> set[int]:
    return {size for size, task in reading.items() if task.done()}


async def test_what_a_client_does_not_take_counts_and_is_gone_with_it(web: Web, room: Watched) -> None:
    """A message of 15 MiB that waits to be written is there twice."""
    whole = b"\x82\x7f" + struct.pack(">Q", 15 * MIB)
    path = says(whole, "much-15", bytes(1024))
    taking = await greedy(web, path)
    first = await taking.receive()
    assert len(first.data) == 15 * MIB
    smaller = b"\x82\x7f" + struct.pack(">Q", 14 * MIB)
    slow = [await greedy(web, says(smaller, "much-14", bytes(1024)))]
    slow[0]._conn.transport.pause_reading()
    await holds(room, 28 * MIB)
    with capture_logs() as lines:
        slow.append(await greedy(web, path))
        slow[1]._conn.transport.pause_reading()

        async def made_way() -> bool:
            return room.cuts == 1

        async def cut() -> bool:
            return TOO_MUCH in [line.get("cut") for line in lines]

        await until(made_way)
        assert sum(map(unwritten, open_sides())) <= 14 * MIB, "nothing is sent to whom was cut"
        await until(cut)
    assert room.most <= MOST_BYTES
    await taking.send_bytes(b"still open")
    assert not taking.closed
    for socket in slow:
        socket._conn.transport.abort()
    await taking.close()
    await is_empty(room)


async def test_no_more_waits_to_be_written_than_the_message_that_is_counted(web: Web, room: Watched) -> None:
    """The kernel takes a few MiB of what a client does not read; all else waits with the job."""
    message = frame(3000)
    socket = await greedy(web, says(message[:10], "much-15", message[10:] + message[:10]))
    socket._conn.transport.pause_reading()
    await holds(room, 2 * 3000 + 512 * 1024)
    (side,) = open_sides()
    assert 0 < unwritten(side) <= len(message)
    socket._conn.transport.abort()
    await is_empty(room)


def open_sides() -> list[ClientSide]:
    """Those of this process to clients, also when they are just being closed."""
    sides = [each for each in gc.get_objects() if isinstance(each, ClientSide)]
    return [each for each in sides if each.reader.transport is not None]


def unwritten(side: ClientSide) -> int:
    transport = side.reader.transport
    return 0 if transport is None else transport.get_write_buffer_size()


async def test_a_token_that_ends_is_told_for_why_whatever_its_client_has_still_to_take(
    web: Web, room: Watched
) -> None:
    token_id = await web.yard.token("ci", READER)
    whole = b"\x82\x7f" + struct.pack(">Q", 15 * MIB)
    socket = await greedy(web, says(whole, "much-15", bytes(1024)), token="ci")
    socket._conn.transport.pause_reading()
    await holds(room, 30 * MIB)
    with capture_logs() as lines:
        assert (await web.yard.call("DELETE", f"/v1/token/{token_id}", token=ADMIN)).status == 204

        async def told() -> bool:
            return any("revoked" in str(line.get("cut")) for line in lines)

        await until(told)
    await is_empty(room)


def frame(size: int) -> bytes:
    return b"\x82\x7f" + struct.pack(">Q", size) + bytes(size)


async def test_a_text_that_is_none_is_refused_from_either_side(web: Web, neighbour: Web) -> None:
    """By us: these clients take any."""
    by_client = await neighbour.socket(token="other", decode_text=False)
    by_client._writer.transport.write(b"\x81\x82" + bytes(4) + b"\xff\xff")
    by_job = await greedy(web, says(b"\x81\x02\xff\xff", "hold"), decode_text=False)
    for socket in (by_client, by_job):
        message = await socket.receive()
        assert (message.type, message.data) == (WSMsgType.CLOSE, WSCloseCode.INVALID_TEXT)
    socket = await greedy(web, says(b"\x81\x02\xc3\xa9", "hold"))
    assert (await socket.receive()).data == "é"
    await socket.close()

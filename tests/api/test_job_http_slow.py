"""Sockets to jobs of which a side is slow: who cannot answer a ping is there, and who is gone is noticed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from service.api import door
from service.api.job_http import heartbeat, sockets
from service.api.job_http.weighing import ClientSide
from service.paced import is_held
from tests.api.job_web import Web, saying
from tests.api.test_job_http_hostile import says
from tests.api.test_job_http_memory import MIB, frame, greedy, open_sides, unwritten
from tests.api.yard import READER, Supervision, Yard
from tests.supervisor.lab import Lab
from tests.support.waiting import until

#: A client that is there may be late by a quarter of it: both live in one loop.
SHORT_S = 2.0


@pytest.fixture
async def web(yard: Yard, supervision: Supervision, lab: Lab) -> Web:
    """A job that says what it is told to."""
    return await saying(yard, supervision, lab)


@pytest.fixture
def silences(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ClientSide]]:
    """Each time that a ping was not answered in time."""
    found: list[ClientSide] = []
    told = ClientSide._pong_not_received

    def counted(side: ClientSide) -> None:
        found.append(side)
        told(side)

    monkeypatch.setattr(ClientSide, "_pong_not_received", counted)
    monkeypatch.setattr(sockets, "HEARTBEAT_S", SHORT_S)
    yield found


async def taken(web: Web) -> int:
    """How many bytes of sockets the job has read."""
    return int((await web.path("GET", "/taken")).raw)


async def test_a_client_that_a_busy_job_does_not_read_from_is_there(
    web: Web, silences: list[ClientSide]
) -> None:
    """Its answer stands behind its messages, which we do not read since the job does not."""
    socket = await greedy(web, says(b"", "busy"))
    hearing = asyncio.create_task(socket.receive())  # and answering pings
    sending = asyncio.create_task(_sent(socket, 40))
    await until(lambda: is_held(_protocol()), what="nothing more is read")
    await until(lambda: len(silences) > 0, what="a ping that is not answered")
    assert (await web.path("GET", "/free")).status == 200
    await sending

    async def all_taken() -> bool:
        return await taken(web) >= 40 * MIB

    await until(all_taken, what="the job has it all")
    assert not (hearing.done() or socket.closed)
    hearing.cancel()
    socket._conn.transport.abort()


async def _sent(socket: Any, mib: int) -> None:
    for _ in range(mib):
        await socket.send_bytes(bytes(MIB))


def _protocol() -> Any:
    (side,) = open_sides()
    return side.reader._queue._protocol


@pytest.mark.parametrize(("mib", "where"), [(15, "ours"), (1, "the kernel's")])
async def test_a_client_that_is_slow_to_take_a_message_is_there(
    web: Web, silences: list[ClientSide], monkeypatch: pytest.MonkeyPatch, mib: int, where: str
) -> None:
    """The ping stands behind it, in our buffer or in the kernel's."""
    if where == "ours":  # for however long it stands there
        monkeypatch.setattr(heartbeat, "SLOWEST_BYTES", 2**40)
    head = frame(mib * MIB)[:10]
    socket = await greedy(web, says(head, f"much-{mib}", bytes(1024)))
    socket._conn.transport.pause_reading()
    await until(lambda: len(silences) > 0, what="a ping that is not answered")
    (side,) = open_sides()
    assert (unwritten(side) > 0) == (where == "ours")
    socket._conn.transport.resume_reading()
    assert len((await socket.receive()).data) == mib * MIB
    hearing = asyncio.create_task(socket.receive())
    await socket.send_bytes(b"x" * 1000)

    async def heard() -> bool:
        return await taken(web) >= 1000

    await until(heard, what="what the client says goes to the job as before")
    assert not (hearing.done() or socket.closed)
    hearing.cancel()
    socket._conn.transport.abort()


async def test_a_client_that_answers_nothing_is_gone(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for what it was sent once, and not for ever."""
    monkeypatch.setattr(sockets, "HEARTBEAT_S", 0.2)
    with capture_logs() as lines:
        socket = await greedy(web, says(frame(3000), "hold"))
        socket._conn.transport.pause_reading()
        await until(lambda: _requests(lines) == 1, what="it is given up")
    socket._conn.transport.abort()


async def test_for_what_a_client_took_before_it_was_heard_it_is_not_waited(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr(heartbeat, "SLOWEST_BYTES", 1)
    with capture_logs() as lines:
        socket = await greedy(web, says(frame(3000), "hold"))
        assert len((await socket.receive()).data) == 3000
        await socket.send_bytes(bytes(1000))

        async def heard() -> bool:
            return await taken(web) >= 1000

        await until(heard)
        socket._conn.transport.pause_reading()
        await until(lambda: _requests(lines) == 1, what="it is given up")
    socket._conn.transport.abort()


async def test_a_client_that_never_takes_its_message_is_ended_by_the_kernel(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr(door, "TAKES_NOTHING_S", 1.0)
    path = says(frame(15 * MIB)[:10], "much-15", bytes(1024))
    headers = {"Authorization": f"Bearer {web.yard.tokens[READER]}"}
    with capture_logs() as lines:
        async with aiohttp.ClientSession() as fresh:  # its connection is made only now
            socket: Any = await fresh.ws_connect(
                f"{web.yard.url}/job/{web.job}/socket{path}", headers=headers
            )
            socket._conn.transport.pause_reading()
            await until(lambda: _requests(lines) == 1, what="it is given up")
            socket._conn.transport.abort()


def _requests(lines: Any) -> int:
    """How many sockets have ended."""
    return sum(line.get("event") == "request" and line.get("status") == 101 for line in lines)

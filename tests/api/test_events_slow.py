"""Clients of event streams that take nothing: what becomes of them, and that nobody else is made to pay."""

from __future__ import annotations

import asyncio
import gc
import socket as sockets
from contextlib import AsyncExitStack

import pytest
from structlog.testing import capture_logs

from service.api.call import SERVICE
from service.api.door import Door
from service.api.events.feed import Pace
from service.api.events.in_hand import FORMS
from service.api.events.sending import MEANING, SLOW
from service.api.events.stream import MOST_WRITTEN_BYTES
from tests.api.streams import Socket, Sse, ids, socket, sse
from tests.api.test_events_hard import backlog, ended, note
from tests.api.test_sent import asking
from tests.api.yard import READER, Supervision, Yard
from tests.support.waiting import until

LARGE = 200_000
#: More than the kernel takes for a client.
HUGE = 12_000_000

AS_SOCKET = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
)


def answered(yard: Yard, status: int) -> float:
    """How many requests for events the metrics have with this status."""
    requests = yard.app[SERVICE].metrics.requests
    value: float = requests.labels("GET", "/v1/events", status)._value.get()
    return value


async def test_a_websocket_that_takes_nothing_has_its_line_and_is_counted(
    yard: Yard, supervision: Supervision
) -> None:
    yard.app[SERVICE].feed.pace = Pace(write_timeout_s=0.3, close_s=0.2)
    job = (await yard.submit())["id"]
    await backlog(yard, job, 120)  # more than the kernel takes for a client
    with capture_logs() as lines:
        stuck = await asyncio.to_thread(asking, yard, "/v1/events?after=0", READER, AS_SOCKET)
        with stuck:
            await until(lambda: answered(yard, 101) == 1, what="the request is counted")
    (line,) = [each for each in lines if each.get("streamed") == "websocket"]
    assert (line["event"], line["status"], line["cut"]) == ("request", 101, MEANING[SLOW])
    assert 0 < line["sent_events"] < 120 and line["position"] > 0
    assert ended(yard, SLOW) == 1


async def test_who_takes_large_events_is_not_ended_for_how_many_there_are(
    yard: Yard, supervision: Supervision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A websocket's frame is the same bytes for all. What was taken counts no more, and that at once."""
    held = yard.app[SERVICE].parts.held
    yard.app[SERVICE].feed.pace = Pace(beat_s=600.0)
    job = (await yard.submit())["id"]
    await supervision.running(job)
    monkeypatch.setattr(held, "_most", FORMS * 4 * LARGE)
    async with AsyncExitStack() as open_ones:
        programs = [
            await open_ones.enter_async_context(socket(yard, "?type=RunNoted", max_msg_size=0))
            for _ in range(30)
        ]
        for each in programs:
            await each.until_live()
        browsers = [await open_ones.enter_async_context(sse(yard, "?type=RunNoted")) for _ in range(30)]
        for number in range(3):
            await note(yard.ledger, job, f"{number} " + "x" * LARGE)
        everybody: list[Socket | Sse] = [*programs, *browsers]
        seen = await asyncio.gather(*(each.events(3) for each in everybody))
        assert all(ids(each) == ids(seen[0]) for each in seen)
        await until(lambda: held.bytes == 0, what="nothing of them counts")


@pytest.mark.parametrize("more", [AS_SOCKET, "Accept: text/event-stream\r\n"], ids=["websocket", "sse"])
async def test_a_large_event_counts_until_its_client_has_taken_it(
    yard: Yard, supervision: Supervision, more: str
) -> None:
    """It was sent at once, and stands in the buffers of the connection."""
    held, feed = yard.app[SERVICE].parts.held, yard.app[SERVICE].feed
    feed.pace = Pace(beat_s=600.0, write_timeout_s=600.0)
    job = (await yard.submit())["id"]
    await supervision.running(job)
    with await asyncio.to_thread(asking, yard, "/v1/events?type=RunNoted", READER, more) as slow:
        await until(lambda: [each.live for each in feed.streams] == [True])
        await note(yard.ledger, job, "x" * HUGE)
        await until(lambda: held.bytes > FORMS * HUGE)
        for _ in range(3):
            assert (await yard.call("GET", "/v1/me", token=READER)).status == 200
        assert held.bytes > FORMS * HUGE
        if more != AS_SOCKET:
            assert max(map(unwritten, connections())) <= 2 * MOST_WRITTEN_BYTES, "it has no copy of its own"
        await asyncio.to_thread(_take, slow, HUGE)
        await until(lambda: held.bytes == 0, what="it counts no more")


def connections() -> list[Door]:
    return [each for each in gc.get_objects() if isinstance(each, Door)]


def unwritten(door: Door) -> int:
    return 0 if door.transport is None else door.transport.get_write_buffer_size()


def _take(slow: sockets.socket, size: int) -> None:
    while size > 0:
        part = slow.recv(2**20)
        assert part, "it was ended"
        size -= len(part)

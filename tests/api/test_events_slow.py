"""Clients of event streams that take nothing: what becomes of them, and that nobody else is made to pay."""

from __future__ import annotations

import asyncio

from structlog.testing import capture_logs

from service.api.call import SERVICE
from service.api.events.feed import Pace
from service.api.events.sending import MEANING, SLOW
from tests.api.test_events_hard import backlog, ended
from tests.api.test_sent import asking
from tests.api.yard import READER, Supervision, Yard
from tests.support.waiting import until

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

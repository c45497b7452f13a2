"""A stream as Server-Sent Events, for browsers and for curl. Source: HTML, "Server-sent events"."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import msgspec
from aiohttp import web

from service.api.call import EDGE, SERVICE
from service.api.events.feed import Pace
from service.api.events.pieces import Control, Piece
from service.api.events.sending import FAILED, MEANING, RESTARTS, SLOW, TOKEN, Sending, TooSlow
from service.api.events.stream import MOST_WRITTEN_BYTES, Stream
from service.api.handshake import EVENT_STREAM
from service.api.stream import cut_off, while_wanted
from service.api.watch import SERVICE_ENDS, Follower
from service.ledger.read import Head

#: A browser that lost its stream connects again after so many milliseconds.
RETRY_MS = 2000
_HEADERS = {"X-Accel-Buffering": "no"}  # nginx holds back what it proxies, unless it is told not to


class SseOutlet:
    """Control frames have a name, so that `onmessage` gets events alone; each has the cursor as its id."""

    def __init__(self, response: web.StreamResponse, pace: Pace) -> None:
        self._response = response
        self._pace = pace

    async def events(self, pieces: Sequence[Piece]) -> None:
        await self.write(b"".join([piece.sse for piece in pieces]))

    async def control(self, kind: Control, position: int, frame: bytes) -> None:
        await self.write(b"event: %b\nid: %d\ndata: %b\n\n" % (kind.encode(), position, frame))

    async def taken(self) -> None:
        """So it has: each write waits for that."""

    async def end(self, code: int) -> None:
        """Tell the client why, if it is there to be told."""
        data = msgspec.json.encode({"code": code, "reason": MEANING[code]})
        with suppress(ConnectionError, TooSlow):
            await self.write(b"event: end\ndata: %b\n\n" % data)

    async def write(self, data: bytes) -> None:
        """By pieces: of each, and no more, aiohttp makes a copy that waits to be sent."""
        whole = memoryview(data)
        try:
            for at in range(0, len(data), MOST_WRITTEN_BYTES):
                async with asyncio.timeout(self._pace.write_timeout_s):
                    await self._response.write(whole[at : at + MOST_WRITTEN_BYTES])
        except TimeoutError:
            raise TooSlow from None


def answer() -> web.StreamResponse:
    response = web.StreamResponse(headers=_HEADERS)
    response.content_type, response.charset = EVENT_STREAM, "utf-8"
    return response


async def serve(request: web.Request, stream: Stream, head: Head, follower: Follower) -> web.StreamResponse:
    """Until the client leaves or takes nothing, or the token may not go on."""
    service = request.app[SERVICE]
    response = answer()
    await response.prepare(request)
    outlet = SseOutlet(response, service.feed.pace)
    sending = Sending(service.feed, stream, outlet, head, request[EDGE].request_id)
    line = request[EDGE].line
    line["streamed"] = "sse"
    code: int | None = None
    try:
        await outlet.write(b"retry: %d\n\n" % RETRY_MS)
        await while_wanted(request, follower, sending.run(service.metrics))
        if follower.cut.is_set():
            code = RESTARTS if follower.why == SERVICE_ENDS else TOKEN
            await outlet.end(code)
    except TooSlow:
        code = SLOW
        cut_off(request)  # an end that it is told would stand behind all that it does not take
    except ConnectionError:
        line["cut"] = "client"
        cut_off(request)
    except Exception:
        code = FAILED
        await outlet.end(code)
        raise
    finally:
        line["sent_events"], line["position"] = sending.sent, sending.position
        if code is not None:
            line["cut"] = MEANING[code]
            service.metrics.ended.labels(code).inc()
    return response

"""GET /v1/events: a websocket, Server-Sent Events or a page of what is past, as the client asks."""

from __future__ import annotations

from functools import partial

import msgspec
from aiohttp import web

from service.api import handshake
from service.api.call import EDGE, JSON, Call
from service.api.client import same_origin
from service.api.events import asked, socket, sse
from service.api.events.asked import EventsAsked
from service.api.events.in_hand import Waiting
from service.api.events.pieces import Piece
from service.api.stream import cut_off
from service.domain.cloudevents import source_of
from service.domain.filters import EventFilter
from service.ledger.read import Head, Looked

#: One answer looks so often, over 50,000 positions each; a page without events then says how far it came.
MOST_LOOKS = 20

TOO_MUCH = (
    "all clients hold too much here, your project's the most, and this stream waits for the largest event"
)

_encode = msgspec.json.Encoder().encode


async def read(call: Call) -> web.StreamResponse:
    """All that can be wrong with a request is told before a stream begins."""
    request, query = call.request, call.query
    wanted = asked.filter_of(query, call.token)
    as_socket = handshake.is_socket(request) and request.method == "GET"
    as_sse = handshake.is_event_stream(request)
    if as_socket:
        same_origin(request, "open this socket")
        socket.check(request)
    head = await call.ledger.head()
    after = asked.cursor_of(request, query, head, resumes=as_sse and not as_socket)
    if not (as_socket or as_sse):
        return await _page(call, wanted, after, head)
    if request.method == "HEAD":
        return sse.answer()
    service = call.service
    with (
        service.watch.followed(None, 0, call.token) as follower,
        service.feed.opened(wanted, after, head) as stream,
        service.metrics.streams.labels("websocket" if as_socket else "sse").track_inprogress(),
    ):
        # Whatever becomes of the token from here on is told to the follower; this is what was before.
        await service.tokens.caller(request)
        serve = socket.serve if as_socket else sse.serve
        stream.waiting = Waiting(service.parts.held, call.project, partial(cut_off, request))
        try:
            return await serve(request, stream, head, follower)
        finally:
            stream.waiting.leave()
            if stream.waiting.was_cut:
                request[EDGE].line["cut"] = TOO_MUCH


async def _page(call: Call, wanted: EventFilter, after: int, head: Head) -> web.Response:
    """The next events that there are; `position` is the cursor for the next page."""
    query: EventsAsked = call.query
    found = await _looked(call, wanted, after, query.limit)
    source = source_of(head.ledger_id)
    body = {
        "items": [msgspec.Raw(Piece(each, source).json) for each in found.events],
        "position": found.position,
        "head": found.head,
        "ledgerId": str(head.ledger_id),
        "epoch": head.epoch,
    }
    return web.Response(body=_encode(body), content_type=JSON)


async def _looked(call: Call, wanted: EventFilter, after: int, limit: int) -> Looked:
    """A page with events, or at the end: a little that was passed over is not worth an answer."""
    for _ in range(MOST_LOOKS):
        found = await call.ledger.look(wanted, after, limit=limit)
        after = found.position
        if found.events or after >= found.head:
            break
    return found

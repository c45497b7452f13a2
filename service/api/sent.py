"""Large answers, sent before their request counts as done.

aiohttp sends what a handler returned after it has returned: by then nobody counts it any more, and it is held
twice until the slowest client has taken all of it. So what is large goes out by pieces, while the request is
still one of its token's, and counts with what all clients together may have in hand.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

from aiohttp import hdrs, web

from service.api.call import EDGE, Call
from service.api.stream import cut_off, pump

#: Up to here an answer goes to the client's line at once.
LARGE_BYTES = 64 * 1024
#: And by so much otherwise.
PIECE_BYTES = 64 * 1024
TOO_MUCH = "all clients hold too much here, your project's the most, and this answer is the largest of them"


async def sent(call: Call, response: web.StreamResponse, holder: str | None) -> web.StreamResponse:
    """The same answer, sent if it is large. `holder` is the project whose client has it to take; None where
    it is the same for all, and nobody holds it for himself."""
    body = response.body if isinstance(response, web.Response) else None
    if not isinstance(body, bytes) or len(body) <= LARGE_BYTES or call.request.method == hdrs.METH_HEAD:
        return response
    streamed = web.StreamResponse(status=response.status, reason=response.reason, headers=response.headers)
    streamed.content_length = len(body)
    if holder is None:
        await streamed.prepare(call.request)
        await pump(call.request, streamed, _pieces(body))
        return streamed
    holding = call.service.parts.held.enter(holder, partial(cut_off, call.request))
    try:
        holding.take(len(body))
        await streamed.prepare(call.request)
        await pump(call.request, streamed, _pieces(body))
    except ConnectionError:  # before a byte of it was sent
        call.request[EDGE].line["cut"] = "client"
        cut_off(call.request)
    finally:
        holding.leave()
        if holding.was_cut:
            call.request[EDGE].line["cut"] = TOO_MUCH
    return streamed


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(body), PIECE_BYTES):
        yield body[at : at + PIECE_BYTES]

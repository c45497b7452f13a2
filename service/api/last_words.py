"""The end of a websocket, by which what was said last arrives, whatever the client is still sending.

A connection that is let go with input unread, or on its way, is reset: our kernel drops what it has not sent
yet, and a client that is told of the reset as it writes drops what it has not read yet. So nothing is let go
until the client has agreed to the end. What it sends until then is read, and dropped: it may be one that
reads only when it has written.
"""

from __future__ import annotations

import asyncio

from aiohttp import WSMsgType, web

from service.api.stream import cut_off

#: More than any buffers between a client and us hold. Who sends more has not looked at what was said.
MOST_UNWANTED_BYTES = 64 * 1024**2
#: A message is no less work for being empty.
_MESSAGE_BYTES = 128
#: A closing frame has room for so much beside its code.
_MOST_WHY_BYTES = 123


async def close(
    request: web.Request,
    socket: web.WebSocketResponse,
    code: int,
    why: str = "",
    *,
    silent_s: float,
    within_s: float,
) -> bool:
    """Say that this is the end, hear the client out, and let the connection go; whether the client agreed.

    It is waited for until it has been silent for so long, and no longer than `within_s` altogether. Nobody
    else may read the socket meanwhile (aiohttp's own `close` waits for nothing then), nor may aiohttp answer
    the client's end by itself: the socket is made with `autoclose=False`.
    """
    said = code.to_bytes(2, "big") + why.encode()[:_MOST_WHY_BYTES]
    # A task, as it may wait for the client to take what was sent before, who may wait for us to read.
    saying = asyncio.create_task(socket.send_frame(said, WSMsgType.CLOSE))
    agreed = False
    try:
        async with asyncio.timeout(within_s):
            agreed = await _heard_out(socket, silent_s)
    except TimeoutError:
        pass
    finally:
        saying.cancel()
        await asyncio.gather(saying, return_exceptions=True)  # the client has left: so it was heard out
        _let_go(request)
    return agreed


async def _heard_out(socket: web.WebSocketResponse, silent_s: float) -> bool:
    """Raises `TimeoutError`."""
    heard = 0
    while heard <= MOST_UNWANTED_BYTES:
        async with asyncio.timeout(silent_s):
            message = await socket.receive()
        if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
            return message.type is WSMsgType.CLOSE
        heard += _MESSAGE_BYTES + len(message.data)
    return False


def _let_go(request: web.Request) -> None:
    transport = request.transport
    if transport is None:
        return
    if transport.get_write_buffer_size():
        cut_off(request)  # who takes nothing would hold the connection for ever
    else:
        transport.close()

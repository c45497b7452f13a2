"""A websocket through to a job: messages, closing codes and sub-protocols, both ways."""

from __future__ import annotations

import asyncio

import aiohttp
import structlog
from aiohttp import WSCloseCode, WSMsgType, web
from yarl import URL

from service.api.call import EDGE, PROXIED
from service.api.job_http import headers
from service.api.job_http.forward import passed_headers
from service.api.job_http.target import Target
from service.api.stream import cut_off, while_wanted
from service.api.watch import SERVICE_ENDS, Follower
from service.errors import Unavailable

MOST_MESSAGE_BYTES = 16 * 1024**2
#: A client that answers no ping in this time's half is gone.
HEARTBEAT_S = 30.0
#: For so long a side may take to close. aiohttp waits for a job as long as it says anything, and for a client
#: to take what waits to be sent to it.
CLOSE_S = 5.0

_log = structlog.get_logger()
Side = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


def is_wanted(request: web.Request) -> bool:
    return request.headers.get("Upgrade", "").lower() == "websocket"


async def bridge(
    http: aiohttp.ClientSession,
    request: web.Request,
    target: Target,
    path: str,
    prefix: str,
    follower: Follower,
) -> web.WebSocketResponse:
    """Until either side closes, or the token may not go on. Raises `Unavailable` when the job refuses."""
    theirs = await while_wanted(request, follower, _opened(http, request, target, path, prefix))
    if theirs is None:
        why = follower.why or "the client left"
        raise Unavailable(f"the websocket to job {target.job.id} was not opened: {why}")
    try:
        chosen = (theirs.protocol,) if theirs.protocol else ()
        ours = web.WebSocketResponse(
            protocols=chosen, max_msg_size=MOST_MESSAGE_BYTES, compress=False, heartbeat=HEARTBEAT_S
        )
        request[PROXIED] = frozenset()
        await ours.prepare(request)
        await _both_ways(request, ours, theirs, follower)
        return ours
    finally:
        await _close(theirs)


async def _opened(
    http: aiohttp.ClientSession, request: web.Request, target: Target, path: str, prefix: str
) -> aiohttp.ClientWebSocketResponse:
    """The job's side of the socket."""
    passed = passed_headers(request, target, prefix)
    for name in headers.OF_A_SOCKET:
        passed.popall(name, None)
    offered = request.headers.get("Sec-WebSocket-Protocol", "")
    try:
        return await http.ws_connect(
            URL(f"http://{target.authority}{path}", encoded=True),
            headers=passed,
            protocols=tuple(filter(None, (each.strip() for each in offered.split(",")))),
            max_msg_size=MOST_MESSAGE_BYTES,
            autoping=True,
        )
    except aiohttp.WSServerHandshakeError as error:
        raise Unavailable(
            f"job {target.job.id} opens no websocket there: it answered {error.status}"
        ) from error
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise Unavailable(f"job {target.job.id} does not answer on port {target.port}") from error


async def _both_ways(
    request: web.Request, ours: web.WebSocketResponse, theirs: Side, follower: Follower
) -> None:
    tasks = [asyncio.create_task(_copy(ours, theirs)), asyncio.create_task(_copy(theirs, ours))]
    cut = asyncio.create_task(follower.cut.wait())
    try:
        await asyncio.wait({*tasks, cut}, return_when=asyncio.FIRST_COMPLETED)
        if cut.done():
            request[EDGE].line["cut"] = follower.why
            code = WSCloseCode.GOING_AWAY if follower.why == SERVICE_ENDS else WSCloseCode.POLICY_VIOLATION
            if not await _close(ours, code, follower.why.encode()):
                cut_off(request)
    finally:
        for task in (*tasks, cut):
            task.cancel()
        for ended in await asyncio.gather(*tasks, cut, return_exceptions=True):
            if isinstance(ended, Exception):
                _log.warning("socket broke off", error=type(ended).__name__)


async def _copy(source: Side, sink: Side) -> None:
    """Every message of one side to the other, then its closing code."""
    try:
        while True:
            message = await source.receive()
            if message.type is WSMsgType.TEXT:
                await sink.send_str(message.data)
            elif message.type is WSMsgType.BINARY:
                await sink.send_bytes(message.data)
            else:
                break
        code = source.close_code
        plain = code is not None and (code < 5000 and code not in (1004, 1005, 1006, 1015))
        reason = message.extra if message.type is WSMsgType.CLOSE and message.extra else ""
        await _close(sink, code if plain and code is not None else WSCloseCode.OK, reason.encode())
    except (ConnectionError, RuntimeError):
        return  # the other side has gone meanwhile


async def _close(side: Side, code: int = WSCloseCode.OK, message: bytes = b"") -> bool:
    """Whether it was closed in good time. When not, it is broken off; a client may have much to take yet."""
    try:
        async with asyncio.timeout(CLOSE_S):
            await side.close(code=code, message=message)
    except TimeoutError:
        return False
    return True

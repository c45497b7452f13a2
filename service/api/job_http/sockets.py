"""A websocket through to a job: messages, closing codes and sub-protocols, both ways."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import aiohttp
import structlog
from aiohttp import WSCloseCode, WSMsgType, web
from yarl import URL

from service.api import handshake
from service.api.call import EDGE, PROXIED
from service.api.job_http import headers
from service.api.job_http.forward import Redirected, passed_headers
from service.api.job_http.target import Target
from service.api.job_http.weighing import SMALL_BYTES, TOO_MUCH, ClientSide, JobSide, Scale, Side
from service.api.stream import cut_off, while_wanted
from service.api.watch import SERVICE_ENDS, Follower
from service.errors import Invalid, Unavailable
from service.held import Room

MOST_MESSAGE_BYTES = 16 * 1024**2
#: A client that answers no ping in this time's half is gone, unless its answer cannot be heard (`heartbeat`).
HEARTBEAT_S = 30.0
#: For so long a side may take to close. aiohttp waits for a job as long as it says anything, and for a client
#: to take what waits to be sent to it.
CLOSE_S = 5.0

_log = structlog.get_logger()


async def bridge(
    http: aiohttp.ClientSession,
    request: web.Request,
    target: Target,
    path: str,
    prefix: str,
    follower: Follower,
    room: Room,
) -> web.WebSocketResponse:
    """Until either side closes, the token may not go on, or too much is held. Raises `Unavailable` when the
    job refuses."""
    if not web.WebSocketResponse().can_prepare(request):
        raise Invalid(
            "Upgrade", "websocket", "a handshake as RFC 6455 has it, with Sec-WebSocket-Key and version 13"
        )
    scale = Scale(room, target.job.project)
    try:
        theirs = await while_wanted(request, follower, _opened(http, request, target, path, prefix, scale))
        if theirs is None:
            why = follower.why or "the client left"
            raise Unavailable(f"the websocket to job {target.job.id} was not opened: {why}")
        try:
            chosen = (theirs.protocol,) if theirs.protocol else ()
            ours = ClientSide(
                protocols=chosen,
                max_msg_size=MOST_MESSAGE_BYTES,
                compress=False,
                heartbeat=HEARTBEAT_S,
                decode_text=False,
            )
            request[PROXIED] = frozenset()
            await ours.prepare(request)
            scale.add(ours)
            await _both_ways(request, ours, theirs, follower, scale)
            return ours
        finally:
            await _close(theirs, _End())
    finally:
        scale.leave()


async def _opened(
    http: aiohttp.ClientSession, request: web.Request, target: Target, path: str, prefix: str, scale: Scale
) -> JobSide:
    """The job's side of the socket."""
    passed = passed_headers(request, target, prefix)
    for name in headers.OF_A_SOCKET:
        passed.popall(name, None)
    try:
        opened: Any = await http.ws_connect(
            URL(f"http://{target.authority}{path}", encoded=True),
            headers=passed,
            protocols=handshake.protocols(request),
            max_msg_size=MOST_MESSAGE_BYTES,
            autoping=True,
            decode_text=False,
        )
    except aiohttp.WSServerHandshakeError as error:
        raise Unavailable(
            f"job {target.job.id} opens no websocket there: it answered {error.status}"
        ) from error
    except Redirected as error:
        raise Unavailable(f"job {target.job.id} opens no websocket there: {error}") from error
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise Unavailable(f"job {target.job.id} does not answer on port {target.port}") from error
    theirs: JobSide = opened
    scale.add(theirs)
    return theirs


async def _both_ways(
    request: web.Request, ours: ClientSide, theirs: JobSide, follower: Follower, scale: Scale
) -> None:
    """Every message of each side to the other, until one ends; then the other is closed as the one was."""
    to_job = asyncio.create_task(_copy(ours, theirs, scale))
    to_client = asyncio.create_task(_copy(theirs, ours, scale))
    cut = asyncio.create_task(follower.cut.wait())
    tasks = (to_job, to_client, cut)
    scale.ends(to_job, to_client)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        # While anybody reads a socket, aiohttp closes its connection without waiting for the other end to
        # agree: what was said last could be lost with it.
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        scale.nobody_waits()
        for end in ends:
            if isinstance(end, Exception):
                _log.warning("socket broke off", error=type(end).__name__)
    by_client, by_job, was_cut = ends
    if scale.was_cut:
        request[EDGE].line["cut"] = TOO_MUCH
        end = _End(WSCloseCode.TRY_AGAIN_LATER, TOO_MUCH.encode())
        told, _ = await asyncio.gather(_close(ours, end), _close(theirs, end))
        if not told:
            cut_off(request)
        return
    if was_cut is True:
        request[EDGE].line["cut"] = follower.why
        code = WSCloseCode.GOING_AWAY if follower.why == SERVICE_ENDS else WSCloseCode.POLICY_VIOLATION
        end = _End(code, follower.why.encode())
    elif isinstance(by_client, _End):
        await _close(theirs, by_client)
        return
    else:
        end = by_job if isinstance(by_job, _End) else _End(WSCloseCode.INTERNAL_ERROR)
    if not await _close(ours, end):
        cut_off(request)


@dataclass(frozen=True)
class _End:
    """How a side closed, or would be closed."""

    code: int = WSCloseCode.OK
    why: bytes = b""


async def _copy(source: Side, sink: Side, scale: Scale) -> _End:
    """Every message of one side to the other; how it closed."""
    try:
        while True:
            message: Any = await source.receive()
            if message.type is WSMsgType.TEXT and not _is_text(message.data):
                await _close(source, _End(WSCloseCode.INVALID_TEXT))
                return _End(WSCloseCode.INVALID_TEXT)
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                break
            size = len(message.data) if len(message.data) > SMALL_BYTES else 0
            if size:
                scale.carry(size)
            if scale.was_cut:
                return _End()  # what is sent now would be held beyond all that counts
            await sink.send_frame(message.data, message.type)
            if size or not source.reader.waiting:
                scale.carry(-size)
    except (ConnectionError, RuntimeError):
        return _End()  # the other side has gone meanwhile
    code = source.close_code
    plain = code is not None and (code < 5000 and code not in (1004, 1005, 1006, 1015))
    reason = message.extra if message.type is WSMsgType.CLOSE and message.extra else ""
    return _End(code if plain and code is not None else WSCloseCode.OK, reason.encode())


def _is_text(data: bytes) -> bool:
    """A text in aiohttp's hands would be up to four times as large as it came: it is passed on as bytes."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


async def _close(side: Side, end: _End) -> bool:
    """Whether it was closed in good time. When not, it is broken off; a client may have much to take yet."""
    try:
        async with asyncio.timeout(CLOSE_S):
            await side.close(code=end.code, message=end.why)
    except TimeoutError:
        return False
    return True

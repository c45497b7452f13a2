"""A stream over a websocket: one CloudEvent a text message, and a closing code that says why it ended.

Sub-protocol: `cloudevents.json`, for clients that must name one. Source: CloudEvents 1.0.2, WebSockets
Protocol Binding.
"""

from __future__ import annotations

import asyncio
import socket as sockets
from collections.abc import Sequence
from contextlib import suppress

from aiohttp import WSCloseCode, web

from service.api import drain, handshake
from service.api.call import EDGE, SERVICE
from service.api.events.feed import Pace
from service.api.events.pieces import Control, Piece, socket_frame
from service.api.events.sending import FAILED, MEANING, RESTARTS, SLOW, TOKEN, Sending, TooSlow
from service.api.events.stream import Stream
from service.api.fair import FairSocket
from service.api.stream import cut_off
from service.api.watch import SERVICE_ENDS, Follower
from service.errors import Invalid
from service.ledger.read import Head

PROTOCOL = "cloudevents.json"
#: Clients have nothing to say here; what they say is not looked at, and more than this ends the stream.
MOST_MESSAGE_BYTES = 4096
#: A client that confirms nothing of what was sent for so long is gone: the kernel then ends the connection.
_GONE_MS = 60_000


def check(request: web.Request) -> None:
    """Raise `Invalid` for a client that offers sub-protocols, and not ours."""
    offered = handshake.protocols(request)
    if offered and PROTOCOL not in offered:
        raise Invalid(handshake.PROTOCOL_HEADER, ", ".join(offered)[:200], f"{PROTOCOL}, or none")


class SocketOutlet:
    """Whole frames to the transport, many at a time: those of events are the same for every client."""

    __slots__ = ("_pace", "_request", "_socket")

    def __init__(self, request: web.Request, socket: web.WebSocketResponse, pace: Pace) -> None:
        self._request = request
        self._socket = socket
        self._pace = pace

    async def events(self, pieces: Sequence[Piece]) -> None:
        await self._write(_frames(pieces))

    def takes(self) -> bool:
        """Whether the client is there, and takes what is sent: nothing has to be waited for."""
        transport = self._request.transport
        return (
            transport is not None
            and not self._request.protocol.writing_paused
            and not transport.is_closing()
            and not self._socket.closed
        )

    def leave(self, pieces: Sequence[Piece]) -> None:
        transport = self._request.transport
        assert transport is not None  # noqa: S101 (`takes` was asked just before)
        transport.write(_frames(pieces))

    async def control(self, kind: Control, position: int, frame: bytes) -> None:
        await self._write(socket_frame(frame))

    async def _write(self, data: bytes) -> None:
        transport = self._request.transport
        if transport is None or transport.is_closing() or self._socket.closed:
            raise ConnectionResetError("the client has left")
        transport.write(data)
        await self.taken()

    async def taken(self) -> None:
        protocol = self._request.protocol
        if protocol.writing_paused:
            try:
                async with asyncio.timeout(self._pace.write_timeout_s):
                    await drain.drained(protocol)
            except TimeoutError:
                raise TooSlow from None


def _frames(pieces: Sequence[Piece]) -> bytes:
    """Of a single event the very bytes that all other clients are sent."""
    return pieces[0].socket if len(pieces) == 1 else b"".join([piece.socket for piece in pieces])


async def serve(request: web.Request, stream: Stream, head: Head, follower: Follower) -> web.StreamResponse:
    """Until the client leaves or takes nothing, or the token may not go on."""
    service = request.app[SERVICE]
    pace = service.feed.pace
    socket = FairSocket(
        protocols=(PROTOCOL,), max_msg_size=MOST_MESSAGE_BYTES, timeout=pace.close_s, compress=False
    )
    await socket.prepare(request)
    _end_when_unconfirmed(request)
    outlet = SocketOutlet(request, socket, pace)
    sending = Sending(service.feed, stream, outlet, head, request[EDGE].request_id)
    sending.at_once(outlet, service.metrics)
    talking = asyncio.create_task(sending.run(service.metrics))
    line = request[EDGE].line
    line["streamed"] = "websocket"
    try:
        await _listen(socket, talking, follower)
        code = _code(talking, follower)
        if code is not None:
            line["cut"] = MEANING[code]
            service.metrics.ended.labels(code).inc()
            # Nobody reads any more: aiohttp would else not wait for the client to agree.
            # Nor writes: whose time for it ran out then would cancel the closing too.
            await _ended(talking)
            await _close(request, socket, code, pace)
    finally:
        await _ended(talking)
        line["sent_events"], line["position"] = sending.sent, sending.position
    _raise_what_nobody_expected(talking)
    return socket


def _code(talking: asyncio.Task[None], follower: Follower) -> int | None:
    """Why the stream ends; None when the client has left."""
    if follower.why:
        return RESTARTS if follower.why == SERVICE_ENDS else TOKEN
    error = talking.exception() if talking.done() else None
    match error:
        case None | ConnectionError():
            return None
        case TooSlow():
            return SLOW
        case _:
            return FAILED


async def _close(request: web.Request, socket: web.WebSocketResponse, code: int, pace: Pace) -> None:
    """Tell the client, and break the connection off when it does not agree in time."""
    drain.nobody_waits(request.protocol)  # or the closing, and the request with it, would be cancelled
    try:
        async with asyncio.timeout(2 * pace.close_s):
            await socket.close(code=code, message=MEANING[code].encode()[:120])
    except TimeoutError:
        pass
    if socket.close_code == WSCloseCode.ABNORMAL_CLOSURE:
        cut_off(request)


async def _listen(socket: web.WebSocketResponse, talking: asyncio.Task[None], follower: Follower) -> None:
    """Until the client leaves, nothing is told any more, or it may not go on. Pings are answered on the way.

    In the request's own task, ended as by a timeout: a stream takes one more task, not three.
    """
    if follower.why:
        return

    listening = True

    def end(_done: object = None) -> None:
        # It may be on its way already when the client leaves in the same moment.
        if listening and not until.expired():
            until.reschedule(0.0)

    with suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(None) as until:
            talking.add_done_callback(end)
            follower.on_cut = end
            try:
                async for _ in socket:
                    pass
            finally:
                listening = False
                talking.remove_done_callback(end)
                follower.on_cut = None


def _end_when_unconfirmed(request: web.Request) -> None:
    """Without pings: an answer to one would stand behind all that a slow client has still to take."""
    transport = request.transport
    found = None if transport is None else transport.get_extra_info("socket")
    if found is not None and hasattr(sockets, "TCP_USER_TIMEOUT"):
        found.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_USER_TIMEOUT, _GONE_MS)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _raise_what_nobody_expected(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, ConnectionError | TooSlow):
            raise error

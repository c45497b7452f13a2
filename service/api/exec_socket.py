"""A command's streams over a websocket, as Kubernetes has it: the first byte of each binary message says
which stream the rest belongs to.

Sub-protocols: `v4.channel.k8s.io`, and `v5.channel.k8s.io`, which adds how the client ends the input.
Source: Kubernetes, apimachinery/pkg/util/remotecommand, and KEP-4006.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import WSCloseCode, WSMsgType, web

from service.api import handshake, last_words
from service.api.call import EDGE, Call
from service.api.job_http.weighing import SMALL_BYTES, TOO_MUCH, ClientSide, Scale
from service.api.ports import RunningExec
from service.api.stream import cut_off
from service.api.watch import SERVICE_ENDS, Follower
from service.errors import Invalid, JobyardError, Unavailable

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255

MOST_MESSAGE_BYTES = 1024**2
#: The client is asked so often whether it is there; one that is silent twice as long is not.
HEARTBEAT_S = 20.0
#: For so long a client may take to agree to an end that is not its command's.
CLOSE_S = 2.0
#: And so long it may say nothing after it was sent how its command ended.
AGREE_S = 10.0
WRITE_TIMEOUT_S = 60.0
MOST_SIDE = 10_000


class _Size(msgspec.Struct, rename="pascal"):
    """A terminal's, in characters."""

    width: int
    height: int


_size = msgspec.json.Decoder(_Size).decode


def check(request: web.Request) -> None:
    """Raise `Invalid` unless the client speaks one of the sub-protocols."""
    offered = handshake.protocols(request)
    if not set(offered) & set(PROTOCOLS):
        shown = ", ".join(offered)[:200] or "none"
        raise Invalid(handshake.PROTOCOL_HEADER, shown, f"one of {', '.join(PROTOCOLS)}")


@dataclass(frozen=True, slots=True)
class _End:
    """With what a socket is to be closed. `told`: the client has been sent how its command ended."""

    code: int
    why: str = ""
    told: bool = False


async def serve(
    call: Call, running: RunningExec, follower: Follower, project: str, *, stdin: bool
) -> web.WebSocketResponse:
    """Until the command ends, the client leaves, the token may not go on, or too much is held."""
    socket = ClientSide(
        protocols=PROTOCOLS,
        max_msg_size=MOST_MESSAGE_BYTES,
        autoping=False,
        autoclose=False,
        timeout=CLOSE_S,
        compress=False,
    )
    scale = Scale(call.service.parts.held, project)
    try:
        await socket.prepare(call.request)
        scale.add(socket)
        session = _Session(socket, running, scale, stdin=stdin)
        await _run(call, session, follower, scale)
    finally:
        scale.leave()
    call.request[EDGE].line["sent_bytes"] = session.sent_bytes
    return socket


async def _run(call: Call, session: _Session, follower: Follower, scale: Scale) -> None:
    """The whole session, and its end as the client is told it."""
    talking = asyncio.create_task(session.talk())
    listening = asyncio.create_task(session.listen())
    beating = asyncio.create_task(session.beat())
    cut = asyncio.create_task(follower.cut.wait())
    tasks = (talking, listening, beating)
    scale.ends(talking, listening)
    try:
        await asyncio.wait({*tasks, cut}, return_when=asyncio.FIRST_COMPLETED)
        # A ping after the closing frame would be a mistake, and a second reader would spoil the end.
        await _ended(*tasks)
        # What nobody expected is for the edge to tell.
        ends = [each.result() for each in (talking, listening, beating) if not each.cancelled()]
        end = next((each for each in ends if each is not None), None)
        if scale.was_cut:
            call.request[EDGE].line["cut"] = TOO_MUCH
            end = _End(WSCloseCode.TRY_AGAIN_LATER, TOO_MUCH)
        elif cut.done() and not (end is not None and end.told):
            call.request[EDGE].line["cut"] = follower.why
            code = WSCloseCode.GOING_AWAY if follower.why == SERVICE_ENDS else WSCloseCode.POLICY_VIOLATION
            end = _End(code, follower.why)
        if end is not None:
            await _close(call.request, session.socket, end, cut)
        elif not beating.cancelled():
            cut_off(call.request)
    finally:
        await _ended(*tasks, cut)


async def _ended(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _close(
    request: web.Request, socket: web.WebSocketResponse, end: _End, cut: asyncio.Task[Any]
) -> None:
    """A command that is over can wait for a slow client to take it all; another ends with the socket."""
    silent_s, within_s = (AGREE_S, WRITE_TIMEOUT_S) if end.told else (CLOSE_S, CLOSE_S)
    closing = asyncio.create_task(
        last_words.close(request, socket, end.code, end.why, silent_s=silent_s, within_s=within_s)
    )
    try:
        await asyncio.wait({closing, cut}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({closing}, timeout=CLOSE_S)  # who is cut off now may still take what was told
    finally:
        await _ended(closing)
    if not closing.cancelled():
        closing.result()


class _Session:
    """One open socket and the command at its other end."""

    def __init__(self, socket: ClientSide, running: RunningExec, scale: Scale, *, stdin: bool) -> None:
        self.socket = socket
        self._running = running
        self._scale = scale
        self._stdin = stdin
        self._heard_at = asyncio.get_running_loop().time()
        self._handing_on = False
        self._input_over = False
        self.sent_bytes = 0

    async def talk(self) -> _End | None:
        """What the command writes, then how it ended. None when nobody is there to be told."""
        try:
            await self._send(STDOUT, b"")  # tells the client that the command has begun
            try:
                async for output in self._running.output():
                    await self._send(output.stream, output.data)
                status = _status(await self._running.exit_code())
            except JobyardError as error:
                return await self._failed(error)
            await self._send(ERROR, status)
        except (ConnectionError, TimeoutError):
            return None
        return _End(WSCloseCode.OK, told=True)

    async def listen(self) -> _End | None:
        """What the client says: input, its end, the terminal's size. None when the client has left."""
        try:
            try:
                wrong = await self._listen()
            except JobyardError as error:
                return await self._failed(error)
        except (ConnectionError, TimeoutError):
            return None
        return None if wrong is None else _End(WSCloseCode.UNSUPPORTED_DATA, wrong)

    async def _failed(self, error: JobyardError) -> _End:
        await self._send(ERROR, _failure(error.message))
        return _End(WSCloseCode.INTERNAL_ERROR)

    async def beat(self) -> None:
        """Ends when the client is there no more.

        Nothing is read from it while its input waits for a command that does not read: then its silence
        says nothing.
        """
        loop = asyncio.get_running_loop()
        while loop.time() - self._heard_at <= 2 * HEARTBEAT_S:
            await asyncio.sleep(HEARTBEAT_S)
            try:
                async with asyncio.timeout(WRITE_TIMEOUT_S):
                    await self.socket.ping()
            except (ConnectionError, TimeoutError):
                return
            if self._handing_on:
                self._heard_at = loop.time()

    async def _listen(self) -> str | None:
        """Until the client has left, or has said something wrong: then what, in words."""
        async for message in self.socket:
            self._heard_at = asyncio.get_running_loop().time()
            if message.type is WSMsgType.PING:
                await self.socket.pong(message.data)
                continue
            if message.type is WSMsgType.PONG:
                continue
            if message.type is not WSMsgType.BINARY or not message.data:
                return "messages are binary, and begin with the number of a channel"
            with self._carried(len(message.data)):
                if (wrong := await self._take(message.data[0], message.data[1:])) is not None:
                    return wrong
        # At once: to end the command can take longer than a client waits.
        await self.socket.close(drain=False)
        return None

    async def _take(self, channel: int, data: bytes) -> str | None:
        """One message; in words, what is wrong with it."""
        match channel:
            case 0 if self._stdin:
                await self._write(data)
            case 0:
                return "the command was asked for without stdin"
            case 4:
                return await self._resize(data)
            case 255 if self.socket.ws_protocol == PROTOCOLS[0] and data == bytes([STDIN]):
                await self._hand_on(self._running.end_input())
            case _:
                return f"a client does not speak on channel {channel}"
        return None

    async def _write(self, data: bytes) -> None:
        if not data or self._input_over:
            return
        try:
            await self._hand_on(self._running.write(data))
        except Unavailable:
            # The command has ended, or reads no more: how it ended is told by its output's end. A line to
            # the engine that is broken ends the output too.
            self._input_over = True

    async def _hand_on(self, work: Awaitable[None]) -> None:
        self._handing_on = True
        try:
            await work
        finally:
            self._handing_on = False
            self._heard_at = asyncio.get_running_loop().time()

    async def _resize(self, data: bytes) -> str | None:
        try:
            size = _size(data)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return 'a size is {"Width": 80, "Height": 24}'
        if not (0 < size.width <= MOST_SIDE and 0 < size.height <= MOST_SIDE):
            return f"a size is 1 to {MOST_SIDE} each way"
        await self._running.resize(size.width, size.height)
        return None

    @contextmanager
    def _carried(self, count: int) -> Iterator[None]:
        """While a message is handed on, it is held, unless it is a small one: until its side has taken it."""
        weight = count if count > SMALL_BYTES else 0
        if weight:
            self._scale.carry(weight)
        try:
            yield
        finally:
            if weight:
                self._scale.carry(-weight)

    async def _send(self, channel: int, data: bytes) -> None:
        with self._carried(len(data)):
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await self.socket.send_bytes(bytes([channel]) + data)
        self.sent_bytes += len(data)


def _status(code: int) -> bytes:
    """How a command ended, as Kubernetes' `metav1.Status`."""
    if code == 0:
        return msgspec.json.encode({"metadata": {}, "status": "Success"})
    cause = {"reason": "ExitCode", "message": str(code)}
    return _failure(
        f"command terminated with exit code {code}", reason="NonZeroExitCode", details={"causes": [cause]}
    )


def _failure(message: str, **more: Any) -> bytes:
    return msgspec.json.encode({"metadata": {}, "status": "Failure", "message": message, **more})

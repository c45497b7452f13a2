"""What a socket to a job, or to a command in it, has in hand, weighed: a message is held from its first byte
until it has gone out.

Two sides may each send 16 MiB of a message without end, and a token may have thousands of sockets. So all of
it is in one `Room`, shared among projects: what a hostile job and its clients hold is their project's,
however many tokens they have.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

import aiohttp
from aiohttp import WSMsgType

from service.api import drain
from service.api.fair import InTurns
from service.api.job_http.heartbeat import AskedSocket
from service.held import Room

#: What Python needs for a piece of a frame that has not come whole, beside its bytes.
PIECE_BYTES = 64
#: And for a message in the queue, beside the 128 that aiohttp counts.
ENTRY_BYTES = 96
#: A message up to here is not weighed on its way out: to weigh thousands of them is dearer than they are.
SMALL_BYTES = 1024
#: What a socket is told that is cut for what it held, in at most 123 bytes.
TOO_MUCH = "all sockets hold too much here, your project's the most, and this one the most of them"
_CLOSE = 8


class Unfinished:
    """How much has come of a message that is not whole yet: the frames are followed, and nothing is kept."""

    def __init__(self) -> None:
        self.bytes = 0
        #: The other end has said that it closes.
        self.closed = False
        self._head = b""
        self._left = 0
        self._kind, self._is_last = 0, False

    def feed(self, data: bytes) -> Unfinished:
        """What the other end has sent next. Returns itself."""
        if self._head:
            data, self._head = self._head + data, b""
        at, end = 0, len(data)
        while True:
            here = min(self._left, end - at)
            if here:
                at += here
                self._left -= here
                self._count(here)
            if self._left:
                if self._kind < _CLOSE:
                    self.bytes += PIECE_BYTES
                return self
            head = _head_bytes(data, at, end)
            if head > end - at:
                self._head = data[at:]
                return self
            self._kind, self._is_last = data[at] & 15, data[at] >= 128
            short, after = data[at + 1] & 127, at + 2
            self._left = (
                short if short < 126 else int.from_bytes(data[after : after + (2 if short == 126 else 8)])
            )
            at += head
            if not self._left:
                self._count(0)

    def _count(self, count: int) -> None:
        if self._kind >= _CLOSE:  # a ping or such, which may come between the frames of a message
            self.closed = self.closed or (self._kind == _CLOSE and not self._left)
        elif self._is_last and not self._left:
            self.bytes = 0
        else:
            self.bytes += count


def _head_bytes(data: bytes, at: int, end: int) -> int:
    """Of the frame that begins here; more than there is when that cannot be told yet."""
    if end - at < 2:
        return 2
    second = data[at + 1]
    short = second & 127
    return 2 + (0 if short < 126 else 2 if short == 126 else 8) + (4 if second & 128 else 0)


class Reader:
    """Stands where aiohttp has its own reader of a side's bytes, and hands them on to it."""

    def __init__(self, reader: Any, queue: Any) -> None:
        self._reader: Any = reader
        self._queue = queue
        self._unfinished = Unfinished()
        self._last_bytes = 0
        self.changed: Callable[[], None] = lambda: None

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        if self._reader is None:
            return self._skipped(data)
        answer: tuple[bool, bytes] = self._reader.feed_data(data)
        self._unfinished.feed(data)
        self._last_bytes = len(data)
        self.changed()
        return answer

    def feed_eof(self) -> None:
        self._queue.feed_eof()

    @property
    def held_bytes(self) -> int:
        """The message that comes, those that wait to be taken, and what is not looked at for their sake."""
        queue = self._queue
        unread = 0 if queue._stalled_reader is None else self._last_bytes
        return int(self._unfinished.bytes + queue._size + ENTRY_BYTES * len(queue._buffer) + unread)

    @property
    def waiting(self) -> bool:
        """Whether there are messages to be taken."""
        return bool(self._queue._buffer)

    @property
    def transport(self) -> asyncio.Transport | None:
        found: asyncio.Transport | None = self._queue._protocol.transport
        return found

    def nobody_waits(self) -> None:
        """Whoever waited for this side to take something was cancelled."""
        drain.nobody_waits(self._queue._protocol)

    def drop(self) -> None:
        """Hold nothing any more, and only hear whether the other end agrees that it is over.

        An end that does not take what was sent to it cannot be told anything either.
        """
        self._reader = None
        self._queue._buffer.clear()
        transport = self.transport
        if transport is None:
            return
        if transport.get_write_buffer_size():
            transport.abort()
        elif self._queue._protocol._reading_paused:
            self._queue._protocol.resume_reading()

    def _skipped(self, data: bytes) -> tuple[bool, bytes]:
        frames = self._unfinished
        if not frames.closed and frames.feed(data).closed:
            self._queue.feed_data(aiohttp.WSMessage(WSMsgType.CLOSE, aiohttp.WSCloseCode.OK, ""), 0)
        return False, b""


class _Weighed:
    """aiohttp makes a reader for a socket, and then has the connection feed it: ours is put in between. And
    what waits to be taken is taken in turns with all others."""

    reader: Reader
    _reader: Any

    @property
    def _parser(self) -> Any:
        return self.reader

    @_parser.setter
    def _parser(self, made: Any) -> None:
        if made is not None:
            self.reader = Reader(made, self._reader)
            self._reader = InTurns(self._reader)


class ClientSide(_Weighed, AskedSocket):
    """A client's side of a socket to a job."""


class JobSide(_Weighed, aiohttp.ClientWebSocketResponse):
    """The job's."""


Side = ClientSide | JobSide


class Opened(Protocol):
    """What is weighed of a side."""

    reader: Reader
    _writer: Any


class Scale:
    """Both sides of one socket, in the room of all."""

    def __init__(self, room: Room, project: str) -> None:
        self._holding = room.enter(project, self._cut)
        self._readers: list[Reader] = []
        self._tasks: tuple[asyncio.Task[Any], ...] = ()
        self._in_hand = 0
        self._counted = 0

    @property
    def was_cut(self) -> bool:
        return self._holding.was_cut

    def add(self, side: Opened) -> None:
        """A side that has just been opened: whoever sends to it waits until the kernel has all of it."""
        side._writer._limit = 0
        if side.reader.transport is not None:
            side.reader.transport.set_write_buffer_limits(0)
        self._readers.append(side.reader)
        side.reader.changed = self._weigh
        if self.was_cut:
            side.reader.drop()
        self._weigh()

    def ends(self, *tasks: asyncio.Task[Any]) -> None:
        """They end as soon as the socket is cut."""
        self._tasks = tasks
        if self.was_cut:
            self._cut()

    def carry(self, count: int) -> None:
        """So many bytes of a message were taken, to be sent on; or, below nought, have been.

        A side that takes them slowly has them twice: the message, and what is left of it to be written.
        """
        self._in_hand += 2 * count
        self._weigh()

    def nobody_waits(self) -> None:
        for reader in self._readers:
            reader.nobody_waits()

    def leave(self) -> None:
        """The socket is over. Nothing of it is left, also not for a side that never takes what was sent."""
        for reader in self._readers:
            reader.drop()
        self._holding.leave()

    def _weigh(self) -> None:
        now = self._in_hand
        for reader in self._readers:
            now += reader.held_bytes
        if now != self._counted:
            more, self._counted = now - self._counted, now
            self._holding.take(more)

    def _cut(self) -> None:
        for task in self._tasks:
            task.cancel()
        for reader in self._readers:
            reader.drop()

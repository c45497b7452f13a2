"""A channel and what is at its far end, until one of them is done. Neither side is read faster than the other
takes it, so that memory is bounded however slow they are."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

import asyncssh
import structlog

from service.errors import Unavailable
from service.ssh.in_hand import InHand
from service.ssh.pieces import Pieces
from service.ssh.ports import Far

#: Input that the far end has not taken yet, before the client is told to wait; beside the channel's window.
MOST_HELD_BYTES = 256 * 1024
#: For a client that takes less at a time, what is sent would be cut into countless packets, all at once.
LEAST_PACKET_BYTES = 1024
EXTENDED_DATA_STDERR = 1

_log = structlog.get_logger()


class Line(Protocol):
    """The connection that the channel is on: `free` while it takes what we send; `hand`: what it holds."""

    @property
    def free(self) -> asyncio.Event: ...

    @property
    def hand(self) -> InHand: ...


class Talk:
    """The callbacks that sessions of all kinds have in common, and the two directions."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._chan: Any = None
        self._held = Pieces()
        self._on_its_way_in = self._on_its_way_out = 0
        self._ended = False
        self._heard = asyncio.Event()
        self._takes = asyncio.Event()
        self._takes.set()
        self.gone = asyncio.Event()
        self.sent_bytes = self.received_bytes = 0

    # -- what asyncssh calls ------------------------------------------------------------------------

    def connection_made(self, chan: Any) -> None:
        self._chan = chan
        # Both are still empty; asyncssh keeps a list of what came or goes, one entry a packet.
        chan._recv_buf, chan._send_buf = Pieces(), Pieces()
        self._line.hand.add(self)

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        self._held.append((data, datatype))
        self.received_bytes += len(data)
        if self._held.size_bytes > MOST_HELD_BYTES:
            self._chan.pause_reading()
        self._heard.set()

    def eof_received(self) -> bool:
        self._ended = True
        self._heard.set()
        return True  # we may go on to speak

    def pause_writing(self) -> None:
        self._takes.clear()

    def resume_writing(self) -> None:
        self._takes.set()

    def connection_lost(self, _exc: Exception | None) -> None:
        """What is left goes at once: what was begun in the container may take its time to end."""
        self.gone.set()
        self._held, self._ended = Pieces(), False  # to be cut off is no end of the input
        self._chan._recv_buf, self._chan._send_buf = [], []
        self._line.hand.remove(self)

    # -- what it has in hand ------------------------------------------------------------------------

    @property
    def in_hand_bytes(self) -> int:
        """What the client said and the far end has not taken, and the other way round."""
        moving = self._on_its_way_in + self._on_its_way_out
        return moving + self._held.size_bytes + _bytes(self._chan._recv_buf) + _bytes(self._chan._send_buf)

    # -- the two directions -------------------------------------------------------------------------

    async def hand_out(self, far: Far) -> None:
        """Everything that the far end says, to the client."""
        async for each in far.output():
            self._on_its_way_out = len(each.data)
            while not (self._line.free.is_set() and self._takes.is_set()):
                self._line.hand.count()
                await self._line.free.wait()
                await self._takes.wait()
            try:
                self._chan.write(each.data, EXTENDED_DATA_STDERR if each.stream == 2 else None)
            except OSError:  # the channel is closed, as `gone` is about to tell
                await self.gone.wait()
                return
            self.sent_bytes += len(each.data)
            self._on_its_way_out = 0
            self._line.hand.count()

    async def hand_in(self, far: Far) -> None:
        """Everything that the client says, to the far end, and that it has ended."""
        takes = True
        while (data := await self._next()) is not None:
            try:
                if takes:
                    await far.write(data)
            except Unavailable:
                takes = False  # it reads no more: how it ended is told by its output
        if takes:
            await self.finish(far)

    async def finish(self, far: Far) -> None:
        """Tell the far end that the client has said all it has to say."""
        await far.end_input()

    async def _next(self) -> bytes | None:
        """What is to be handed in. That it is asked for tells that the piece before has been taken."""
        self._on_its_way_in = 0
        self._line.hand.count()
        while not self._held:
            if self._ended:
                return None
            self._heard.clear()
            await self._heard.wait()
        data, _ = self._held.pop()
        self._on_its_way_in = len(data)
        if self._held.size_bytes <= MOST_HELD_BYTES // 2:
            self._chan.resume_reading()
        return data


def _bytes(queue: Pieces | list[Any]) -> int:
    """asyncssh puts an empty list in the place of what it throws away."""
    return queue.size_bytes if isinstance(queue, Pieces) else 0


async def ended(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait until they are over. What went wrong in one meanwhile is told to the log."""
    for task in tasks:
        task.cancel()
    for found in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(found, Exception):
            _log.warning("ssh line broken", error=f"{type(found).__name__}: {found}"[:200])

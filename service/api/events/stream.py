"""What one client's stream has still to be sent, and how it goes on by itself once that is too much.

A stream is live when the feed hands it what it wants, into a queue that is bounded. One whose queue is full
is behind: it goes back to reading the ledger by itself, from the very position where the queue ends, and
joins again when it has caught up with what the feed still holds. Positions decide, so nothing is skipped or
repeated on the way from one to the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import structlog

from service.api.events.in_hand import LARGE_BYTES, Waiting
from service.api.events.pieces import Piece
from service.domain.filters import EventFilter
from service.errors import Unavailable
from service.ledger.labels import Labelled
from service.ledger.read import Looked

#: As much as waits for one client at most, whichever is reached first; one event may be larger.
MOST_QUEUED = 512
MOST_QUEUED_BYTES = 512 * 1024
#: As much as is written at once.
MOST_WRITTEN_BYTES = 64 * 1024
RETRY_S = 0.5

_log = structlog.get_logger()


class Batch(NamedTuple):
    """What comes next in a stream; with it, all that is wanted up to `position` has been handed out."""

    pieces: Sequence[Piece]
    position: int


class Sink(Protocol):
    """Where a batch can be left at once, without waking anybody: a client's connection with room for it."""

    def takes(self) -> bool:
        """Whether it can be left now."""

    def send(self, batch: Batch) -> None: ...


class Guide(Protocol):
    """The feed, as a stream needs it; see `feed.Feed`."""

    def join(self, stream: Stream) -> bool: ...

    async def look(self, stream: Stream) -> Looked: ...

    def piece(self, labelled: Labelled) -> Piece: ...


class Stream:
    """What one client asked for and has still to be sent. `position`: all up to there was queued or taken.

    While `batch` waits for what comes next, and `sink` takes it, it is left there as it comes: to wake a task
    for each of a thousand clients would take longer than to send to them.
    """

    __slots__ = (
        *("_bytes", "_feed", "_in_hand", "_large", "_queue", "_woken"),
        *("asked", "caught_up", "hash", "live", "lost", "position", "sink", "waiting"),
    )

    def __init__(self, feed: Guide, asked: EventFilter, after: int) -> None:
        self.asked = asked
        self.position = after
        self.live = False
        #: Whether it has read the ledger to its end; before, it does so by itself.
        self.caught_up = False
        #: That of the event where the ledger ended when it last read.
        self.hash = b""
        #: Events that it was sent, or the one that it began after, are no more: it is about to be ended.
        self.lost = False
        self._feed = feed
        self.sink: Sink | None = None
        # Nearly always empty: an empty list takes a tenth of what an empty deque does.
        self._queue: list[Piece] = []
        self._bytes = 0
        #: The large events of those that are queued, and those that were handed on, until they have gone out.
        self._large = 0
        self._in_hand: tuple[Piece, ...] = ()
        self.waiting: Waiting | None = None
        #: There while `batch` waits.
        self._woken: asyncio.Future[None] | None = None

    @property
    def queued(self) -> tuple[int, int]:
        """How many events wait, and how many bytes these are."""
        return len(self._queue), self._bytes

    async def batch(self, wait_s: float) -> Batch:
        """What comes next: nothing when there is nothing for `wait_s`, nothing wanted in what was read, or
        when it has just become live. To ask for it is to say that all before has gone out."""
        self._in_hand = ()
        self._weigh()
        if not self._queue and not self.lost:
            if self.live:
                await self._wait(wait_s)
            elif not self._feed.join(self):
                await self._read(wait_s)
        if self.lost:
            await asyncio.get_running_loop().create_future()  # nothing can follow; it waits for its end
        batch = self._take()
        self._weigh()
        return batch

    def push(self, piece: Piece) -> None:
        """Queue an event that is wanted and follows all before; or, when that is too much, fall behind."""
        if not self._fits(piece):
            self.live = False
            self.position = piece.position - 1
        else:
            self._add(piece)
            self.position = piece.position

    def _add(self, piece: Piece) -> None:
        self._queue.append(piece)
        self._bytes += len(piece.json)
        self._large += len(piece.json) > LARGE_BYTES

    def hand_on(self) -> None:
        """Have what is queued sent: by the sink if it takes it, else by whoever waits for it.

        What is left then counts; also a large event that the sink had no room for as a whole, until whoever
        waits for what comes next has seen it go out.
        """
        if self._woken is not None and self._queue:
            if self.live and self.sink is not None and self.sink.takes():
                self.sink.send(self._take())
                if self.sink.takes():
                    self._in_hand = ()
            if self._queue or self._in_hand:
                self._wake()
        self._weigh()

    def fall_behind(self) -> None:
        """Read the ledger from here on, to its end."""
        self.live = self.caught_up = False
        self._wake()

    def lose(self) -> None:
        """Hand out nothing more."""
        self.lost, self.live = True, False

    def _wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    def _fits(self, piece: Piece) -> bool:
        if not self._queue:
            return True
        full = len(self._queue) >= MOST_QUEUED
        return not full and self._bytes + len(piece.json) <= MOST_QUEUED_BYTES

    async def _read(self, wait_s: float) -> None:
        """Read on in the ledger, no more than the queue takes; what is too much is read again later."""
        try:
            found = await self._feed.look(self)
        except Unavailable as error:
            _log.warning("stream waits for the ledger", error=error.message)
            await asyncio.sleep(min(RETRY_S, wait_s))
            return
        self.position, self.hash = found.position, found.hash
        self.caught_up = found.position >= found.head
        for labelled in found.events:
            piece = self._feed.piece(labelled)
            if not self._fits(piece):
                self.position, self.caught_up = piece.position - 1, False
                return
            self._add(piece)

    async def _wait(self, wait_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._woken = loop.create_future()
        timer = loop.call_later(wait_s, self._wake)
        try:
            await self._woken
        finally:
            self._woken = None
            timer.cancel()

    def _take(self) -> Batch:
        size = count = 0
        for piece in self._queue:
            if count and size + len(piece.json) > MOST_WRITTEN_BYTES:
                break
            size += len(piece.json)
            count += 1
            if len(piece.json) > LARGE_BYTES:
                self._large -= 1
                self._in_hand += (piece,)
        taken = self._queue[:count]
        del self._queue[:count]
        self._bytes -= size
        return Batch(taken, taken[-1].position if self._queue else self.position)

    def _weigh(self) -> None:
        if self.waiting is not None and (self._large or self._in_hand or self.waiting):
            queued = [piece for piece in self._queue if len(piece.json) > LARGE_BYTES]
            self.waiting.holds((*self._in_hand, *queued))

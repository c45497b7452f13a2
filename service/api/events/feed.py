"""One reader of the ledger for all streams of the process, and what each of them has still to be sent.

What a stream does when it falls behind is `stream`'s. Its queue holds references to events that are encoded
once for all.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import structlog

from service.api.events.index import Index
from service.api.events.pieces import Piece
from service.api.events.stream import Stream
from service.domain.cloudevents import source_of
from service.domain.filters import EventFilter
from service.errors import Unavailable
from service.ledger.labels import Labelled
from service.ledger.read import BEGINNING, Head, Looked, Mark

#: The latest events are kept, so that streams can join again without the ledger: so many, of so many bytes.
KEPT, KEPT_BYTES = 1024, 4 * 1024**2
#: So many streams read the ledger at once; others wait for their turn.
READERS = 3
MOST_STREAMS = 2000
#: As many of one project, so that none takes all there are from the others.
MOST_OF_PROJECT = 1000
RETRY_S = 0.5

_log = structlog.get_logger()


@dataclass(frozen=True)
class Pace:
    """Seconds: between heartbeats, for a client to take what waits for it, and to agree to the end."""

    beat_s: float = 15.0
    write_timeout_s: float = 30.0
    close_s: float = 2.0


class Page(NamedTuple):
    """Events with their labels, and the last of them; where they were to begin, if there are none."""

    events: list[Labelled]
    end: Mark


class Source(Protocol):
    """The ledger, as the feed needs it. All raise `Unavailable` while it does not answer."""

    @property
    def hints(self) -> int: ...

    async def moved(self, since: int) -> None:
        """Return when the ledger may have grown since that many hints, or when it is time to look anyway."""

    async def page(self, after: Mark) -> Page | None:
        """The next events of all projects, with their labels; None when the one before has been lost."""

    async def look(self, asked: EventFilter, after: int) -> Looked:
        """The next events that a filter wants."""


class Feed:
    """Run `run` in a task of its own, once a process.

    After a failover that lost events, what the streams were sent is not what the ledger has: `lost` is
    called, which ends them all, and until then they are sent nothing.
    """

    def __init__(
        self, source: Source, pace: Pace | None = None, *, lost: Callable[[], None] = lambda: None
    ) -> None:
        self.pace = pace or Pace()
        #: The feed has read up to here, and holds what came after `_floor`.
        self._at = BEGINNING
        self._floor = 0
        self._source = source
        self._lost = lost
        self._kept: deque[Piece] = deque()
        self._kept_bytes = 0
        self._by_position: dict[int, Piece] = {}
        self._live = Index[Stream]()
        self._streams: set[Stream] = set()
        self._wanted = asyncio.Event()
        self._turns = asyncio.Semaphore(READERS)
        #: Where the ledger ended when anybody last looked, and the `source` of its CloudEvents.
        self.head = 0
        self.name = ""

    @property
    def position(self) -> int:
        return self._at.position

    @property
    def behind(self) -> int:
        """How many streams read the ledger by themselves now."""
        return sum(not stream.live for stream in self._streams)

    @property
    def streams(self) -> frozenset[Stream]:
        return frozenset(self._streams)

    @contextmanager
    def opened(self, asked: EventFilter, after: int, head: Head) -> Iterator[Stream]:
        """A stream while the context lasts. Raises `Unavailable` when there are too many."""
        if len(self._streams) >= MOST_STREAMS:
            raise Unavailable(f"{MOST_STREAMS} event streams are open here already; try again")
        if sum(each.asked.project == asked.project for each in self._streams) >= MOST_OF_PROJECT:
            raise Unavailable(f"{MOST_OF_PROJECT} event streams of your project are open here; close some")
        self.name = source_of(head.ledger_id)
        self.head = max(self.head, head.position)
        stream = Stream(self, asked, after)
        self._streams.add(stream)
        try:
            yield stream
        finally:
            self._streams.discard(stream)
            self._leave(stream)

    def piece(self, labelled: Labelled) -> Piece:
        """An event to be sent: the one that is at hand, if it is, with what was encoded of it already."""
        known = self._by_position.get(labelled.event.position)
        if known is None or known.event.recorded_at != labelled.event.recorded_at:  # it is of what was lost
            return Piece(labelled, self.name)
        return known

    async def look(self, stream: Stream) -> Looked:
        """What a stream wants of the ledger after its position, when it has its turn."""
        async with self._turns:
            after = stream.position
            found = await self._source.look(stream.asked, after)
        if found.head < after:
            self._lose()
        self.head = max(self.head, found.head)
        return found

    def join(self, stream: Stream) -> bool:
        """Whether the feed can bring the stream what it wants from its position on. Then it does.

        What comes after that position may be at hand already. A feed without streams begins wherever one
        comes that has read the ledger to its end.
        """
        if not self._live:
            if not stream.caught_up:
                return False
            self._begin_at(Mark(stream.position, stream.hash))
        elif stream.position < self._floor:
            return False
        elif stream.position > self.position and not stream.caught_up:
            return False  # only once it has seen that the ledger goes as far
        stream.live = True
        self._live.add(stream)
        for piece in self._kept:
            if not stream.live:
                break
            if piece.position > stream.position and stream.asked.wants(piece.event, piece.labels):
                stream.push(piece)
        self._settle([stream])
        self._wanted.set()
        return True

    async def run(self) -> None:
        """Read on for those that are live, for ever. What cannot be read now is read later."""
        while True:
            if not self._live:
                self._wanted.clear()
                await self._wanted.wait()
            hints, after = self._source.hints, self._at
            try:
                page = await self._source.page(after)
                if after != self._at:
                    continue  # it began anew elsewhere meanwhile
                if page is None:
                    self._lose()
                    continue
                if page.events:
                    self._at = page.end
                    self.hand_out([Piece(labelled, self.name) for labelled in page.events])
            except Unavailable as error:
                _log.warning("feed interrupted", error=error.message)
                await asyncio.sleep(RETRY_S)
                continue
            except Exception:  # noqa: BLE001 (each stream then reads by itself, and ends with what it finds)
                _log.exception("feed failed; the streams read on by themselves")
                for stream in list(self._live):
                    stream.fall_behind()
                    self._leave(stream)
                await asyncio.sleep(RETRY_S)
                continue
            if not page.events:
                await self._source.moved(hints)

    def hand_out(self, page: Sequence[Piece]) -> None:
        """Bring the next events of the ledger to those that want them."""
        for piece in page:
            for stream in self._live.candidates(piece.event):
                wanted = stream.live and piece.position > stream.position
                if wanted and stream.asked.wants(piece.event, piece.labels):
                    stream.push(piece)
        self.head = max(self.head, self.position)
        self._keep(page)
        self._settle(list(self._live))

    def _settle(self, streams: Sequence[Stream]) -> None:
        """Those that are live have everything up to where the feed is; those that fell behind leave."""
        for stream in streams:
            if stream.live:
                stream.position = max(stream.position, self.position)
                stream.hand_on()
            else:
                stream.fall_behind()
                self._leave(stream)

    def _leave(self, stream: Stream) -> None:
        stream.live = False
        self._live.discard(stream)

    def _lose(self) -> None:
        """The ledger has lost events that streams were sent, or that they began after."""
        _log.warning("the ledger has lost events: all streams end", position=self.position)
        for stream in self._streams:
            stream.lose()
            self._live.discard(stream)
        self._begin_at(BEGINNING)
        self.head = 0
        self._lost()

    def _begin_at(self, mark: Mark) -> None:
        self._at, self._floor = mark, mark.position
        self._kept.clear()
        self._kept_bytes = 0
        self._by_position.clear()

    def _keep(self, page: Sequence[Piece]) -> None:
        for piece in page:
            self._kept.append(piece)
            self._kept_bytes += len(piece.json)
            self._by_position[piece.position] = piece
            while len(self._kept) > KEPT or self._kept_bytes > KEPT_BYTES:
                gone = self._kept.popleft()
                self._kept_bytes -= len(gone.json)
                del self._by_position[gone.position]
                self._floor = gone.position

"""The kept log of one run of a container, and how a snapshot of the engine's log is joined to it.

A snapshot costs the engine more than us, and by the line (6 us on 20.10). So each asks for little more lines
than will have come since the last; the first line of one that begins too late says so, and no more of it is
read. Where the engine has dropped our last record, all that it holds is taken in the same reading that shows
it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import aclosing

from service.errors import LogBroken, Unavailable
from service.supervisor.engine.protocol import Engine
from service.supervisor.logs.format import HEADER_LENGTH, NO_TIME, Record, encoded, stamp_of
from service.supervisor.logs.join import Join, Pace
from service.supervisor.logs.writer import WINDOW, LogWriter

_ENGINE_OVERHEAD_BYTES = 28  # of a record in the engine's own files, measured
_TAIL_MORE, _TAIL_MAX = 32_768, 524_288
LOST = b"output was lost here: it came faster than it could be read; missing is what was printed"
"""Followed by from when to when: no more is known of what the engine dropped."""
EARLY = b"output from before the first line may be lost: the engine's log was full when first read"
AWAY = b"the engine was not heard for a while: if it was restarted, lines printed then may be missing here"


class KeptLog:
    """What is kept of one run's output, and its joining with what the engine has of it.

    `engine_keeps_bytes` is what the engine surely holds of a log before it drops the beginning. The caller
    holds `turn` while it joins: two joinings at a time would keep a record twice.
    """

    def __init__(
        self, engine: Engine, writer: LogWriter, container_id: str, *, engine_keeps_bytes: int
    ) -> None:
        output = [record.encode() for record in writer.recalled if record.kind in "12"]
        self._engine = engine
        self._engine_keeps_bytes = engine_keeps_bytes
        self.writer = writer
        self.container_id = container_id
        self.turn = asyncio.Lock()
        self.task: asyncio.Task[None] | None = None
        """The keeper's, which looks again and again."""
        self.read_bytes = 0
        """What the last joining took, as the engine counts it."""
        self._window = deque(output, maxlen=WINDOW)
        """The last records of output, encoded."""
        self._newest = stamp_of(max(output, default=b""))
        """The latest timestamp of what is kept, or recalled after a restart."""
        self._sure = not output
        """None before our last record in the engine's log is later than `_newest`, whatever its clock did."""
        self._pace = Pace()
        self._away = False
        """The engine was not heard for a while. One that is restarted loses what it had not written, and what
        is printed while there is none."""
        self._said_after: bytes | None = None
        """Our last record when that was said last: before another has come, it is not said again."""

    @property
    def complete(self) -> bool:
        """Whether nothing will be added any more."""
        return self.writer.complete

    async def join(self) -> int:
        """Keep what the engine has and we have not; answers how many records that were.

        A short end of its log first; if that does not hold our last record, a longer one, then all there
        is. If even that does not, the engine has dropped our last record and all it holds is new. Raises as
        `Engine.logs`, and `LogBroken` where the log cannot be read from its beginning; what came before is
        kept.
        """
        try:
            await self._note_absence()
            return await self._join()
        except Unavailable:
            self._away = True
            raise

    async def join_all(self) -> None:
        """`join` until nothing more comes, as of a container that has ended. Raises as `join`."""
        while await self.join():
            self._pace.ended()

    def missed(self) -> None:
        """The engine has begun anew, and perhaps nobody of us was there."""
        self._away = True

    def note(self, text: bytes) -> None:
        """A word of ours between the lines of output."""
        self.writer.append(Record(self._last_time(), "m", text))

    def seal(self) -> None:
        """Mark it complete."""
        self.writer.finish(Record(self._last_time(), "e", b""))

    def _last_time(self) -> str:
        return stamp_of(self._window[-1]).decode() if self._window else NO_TIME

    async def _note_absence(self) -> None:
        """Say that lines may be missing, before those that were printed after the engine came back."""
        last = self._window[-1] if self._window else b""
        if not self._away:
            return
        await self._engine.find(self.container_id)  # raises while the engine is still away
        self._away = False
        if last != self._said_after:
            self._said_after = last
            self.note(AWAY)
            self.writer.flush()

    async def _join(self) -> int:
        first_look = not self._window
        self.read_bytes = 0
        news = await self._in_one_reading()
        if news is None:
            # Our last record is gone, which the first line could not tell, as the clock had stepped back.
            news = await self._read(None, hole=True) or 0
        if first_look and self.read_bytes >= self._engine_keeps_bytes:
            self.note(EARLY)
            self.writer.flush()
        return news

    async def _in_one_reading(self) -> int | None:
        """As `_read`, of the shortest end that is likely to hold our last record, or longer ones."""
        expected = self._pace.expected(asyncio.get_running_loop().time())
        one = Join(self._window).twins == 1
        tails = [tail for tail in (expected, max(2 * expected, _TAIL_MORE)) if one and tail <= _TAIL_MAX]
        for tail in (*tails, None):
            begun_s = asyncio.get_running_loop().time()
            news = await self._read(tail)
            if news is not None:
                self._pace.found(news, begun_s)
                return news
        return None

    async def _read(self, tail: int | None, *, hole: bool = False) -> int | None:
        """Records that were new, or None if this snapshot does not join. Raises `LogBroken` where not even
        all of the log, from its beginning, could be read; what came before that is kept.

        With a `hole`, all is new.
        """
        join, news, begun = Join(() if hole else self._window), 0, not self._window
        try:
            async with aclosing(self._engine.logs(self.container_id, tail=tail)) as batches:
                async for chunks in batches:
                    lines = encoded(chunks)
                    if lines and not begun:
                        begun = True
                        first = stamp_of(lines[0])
                        if tail is not None and first > self._newest:
                            return None  # it begins after all that we have
                        if hole or (self._sure and first > self._newest):
                            self.note(b"%b between %b and %b" % (LOST, stamp_of(self._window[-1]), first))
                            join = Join(())
                    if not join.joined:
                        self._newest = max(self._newest, stamp_of(max(lines, default=b"")))
                    if new := join.new(lines):
                        self._take(new)
                        news += len(new)
        except LogBroken:
            if tail is None:
                raise
            return None  # it is read from its end then, and may be whole from its beginning
        finally:
            self.writer.flush()
        self._sure = self._sure or tail is None
        return news if join.joined else None

    def _take(self, lines: list[bytes]) -> None:
        """Keep new records."""
        self.writer.append_encoded(lines)
        self._window.extend(lines[-WINDOW:])
        self._newest = max(self._newest, stamp_of(max(lines)))
        self.read_bytes += sum(map(len, lines)) + len(lines) * (_ENGINE_OVERHEAD_BYTES - HEADER_LENGTH - 1)

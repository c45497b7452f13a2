"""Keeps what containers print, exactly once, across our crashes, the engine's rotation and its removal.

Measured on 20.10 with the `local` driver: following a log (`follow=1`) skips whole files when output is
faster than the reader, repeats parts, and stops short when the container ends. A snapshot (`follow=0`)
is faithful. So we read snapshots of the end, again and again, and join each to what is kept: records we
have are skipped, and if our last record is no longer among the engine's, output was lost and a note says
so. Joining is also how we resume after a kill, so that path is the only path. A snapshot of the last
thousand lines costs the engine about 10 ms.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import structlog

from service.errors import EngineError, NoSuchContainer, Unavailable
from service.supervisor.engine.protocol import Engine
from service.supervisor.logs.format import NO_TIME, Record, RunLog, pieces
from service.supervisor.logs.writer import WINDOW, LogLimits, LogWriter

log = structlog.get_logger()

_ENGINE_OVERHEAD_BYTES = 28  # of a record in the engine's own files, measured
_TAIL_MIN, _TAIL_MAX = 256, 65_536
LOST = b"output was lost here: it came faster than it could be read"
EARLY = b"output from before the first line may be lost: the engine's log was full when first read"
AWAY = b"the engine did not answer for a while: if it was restarted, lines printed then may be missing here"
GONE = b"the container was gone before the end of its output was read"


class Join:
    """Tells, record by record of a snapshot, what is new; pure, and blind to clocks that step back.

    `kept` is the end of what we have, oldest first. A snapshot runs to the newest record. All up to our
    last record is old, all after it is new; a snapshot that does not hold our last record tells nothing.
    """

    def __init__(self, kept: Iterable[Record]) -> None:
        window = list(kept)
        self._last = window[-1] if window else None
        self._left = self.twins = window.count(window[-1]) if window else 0
        """How many records equal our last one. The 16 KiB pieces of one long line share a timestamp and
        can share their bytes; they are counted, so the snapshot has to begin before the first of them."""

    @property
    def joined(self) -> bool:
        """Whether our last record was seen, so that what follows is new."""
        return self._left == 0

    def is_new(self, record: Record) -> bool:
        """Call for each record in order."""
        if self.joined:
            return True
        if record == self._last:
            self._left -= 1
        return False


@dataclass(slots=True)
class _Run:
    writer: LogWriter
    container_id: str
    window: deque[Record]
    tail: int = _TAIL_MIN
    read_bytes: int = 0
    away: bool = False
    """The engine was asked and did not answer. One that is restarted loses what it had not written yet."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    task: asyncio.Task[None] | None = None


class LogKeeper:
    """Keeps the output of this engine's containers below `root`; `LogReader` serves it.

    `engine_keeps_bytes` is what the engine surely holds of a log before it drops the beginning:
    max-size x (max-file - 1). `pause` waits between two looks; tests give their own.
    """

    def __init__(
        self,
        engine: Engine,
        root: Path,
        *,
        limits: LogLimits | None = None,
        engine_keeps_bytes: int = 2 * 16 * 1024**2,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        busy_s: float = 0.5,
        idle_s: float = 2.0,
    ) -> None:
        self._engine = engine
        self._root = root
        self._limits = limits or LogLimits()
        self._engine_keeps_bytes = engine_keeps_bytes
        self._pause = pause
        self._busy_s = busy_s
        self._idle_s = idle_s
        self._runs: dict[tuple[UUID, int], _Run] = {}

    def watch(self, job: UUID, run: int, container_id: str) -> None:
        """Begin to keep a container's output in the background, or go on; call it as often as you like."""
        kept = self._opened(job, run, container_id)
        if kept.writer.complete:
            self._let_go(job, run)
        elif kept.task is None or kept.task.done():
            name = f"log {job}-{run}"
            kept.task = asyncio.create_task(self._keep_watching(job, run, kept), name=name)

    async def catch_up(self, job: UUID, run: int, container_id: str) -> int:
        """Keep what the engine has now; answers how many records were new. Raises as `Engine.logs`."""
        kept = self._opened(job, run, container_id)
        async with kept.turn:
            return 0 if kept.writer.complete else await self._join_snapshot(kept)

    async def finish(self, job: UUID, run: int, container_id: str) -> None:
        """Collect all output of an ended container and mark the log complete; then it may be removed.

        Idempotent. A container that is gone is noted in the log. Raises `Unavailable`: call again.
        """
        kept = self._opened(job, run, container_id)
        async with kept.turn:
            try:
                await self._collect(kept)
            except OSError as error:
                self._forget(job, run, kept)
                raise Unavailable(f"the log of {job}-{run} cannot be written: {error}") from error
        log.info("log complete", job=str(job), run=run)
        self._let_go(job, run)

    def seal(self, job: UUID, run: int) -> None:
        """Mark the log of a run complete that never had a container, so that nobody waits for it."""
        kept = self._opened(job, run, "")
        if not kept.writer.complete:
            self._seal(kept)
        self._let_go(job, run)

    async def close(self) -> None:
        """Stop watching. Nothing is lost: the next keeper joins where this one stopped."""
        tasks = [kept.task for kept in self._runs.values() if kept.task is not None]
        for job, run in list(self._runs):
            self._let_go(job, run)
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task

    async def _keep_watching(self, job: UUID, run: int, kept: _Run) -> None:
        pause_s = self._busy_s
        while not kept.writer.complete:
            try:
                async with kept.turn:
                    news = 0 if kept.writer.complete else await self._join_snapshot(kept)
            except NoSuchContainer:
                return  # whoever removed it says when the log is complete
            except (Unavailable, EngineError) as error:
                log.warning("log not read", job=str(job), run=run, error=error.message)
                news = 0
            except OSError as error:
                # The disk refused. Forget the writer: the next `watch` opens the files anew and repairs them.
                log.error("log not written", job=str(job), run=run, error=str(error))
                self._forget(job, run, kept)
                return
            pause_s = self._busy_s if news else min(pause_s * 2, self._idle_s)
            await self._pause(pause_s)

    async def _collect(self, kept: _Run) -> None:
        if kept.writer.complete:
            return
        try:
            while await self._join_snapshot(kept):
                pass
        except NoSuchContainer:
            self._note(kept, GONE)
        self._seal(kept)

    def _opened(self, job: UUID, run: int, container_id: str) -> _Run:
        kept = self._runs.get((job, run))
        if kept is None:
            writer = LogWriter(RunLog(self._root, job, run), self._limits)
            output = [record for record in writer.recalled if record.kind in "12"]
            window = deque(output, maxlen=WINDOW)
            kept = _Run(writer, container_id, window)
            self._runs[(job, run)] = kept
        return kept

    def _forget(self, job: UUID, run: int, kept: _Run) -> None:
        kept.writer.close()
        if self._runs.get((job, run)) is kept:
            del self._runs[(job, run)]

    def _let_go(self, job: UUID, run: int) -> None:
        kept = self._runs.pop((job, run), None)
        if kept is not None:
            if kept.task is not None:
                kept.task.cancel()
            kept.writer.close()

    async def _join_snapshot(self, kept: _Run) -> int:
        """Keep what is new; answers how many records that were.

        A short end of the log first; if that does not hold our last record, a longer one, then all there
        is. If even that does not, the engine has dropped our last record and all it holds is new.
        """
        try:
            await self._note_absence(kept)
            return await self._join(kept)
        except Unavailable:
            kept.away = True
            raise

    async def _note_absence(self, kept: _Run) -> None:
        """Say that lines may be missing, before those that were printed after the engine came back."""
        if not kept.away:
            return
        await self._engine.find(kept.container_id)  # raises while the engine is still away
        kept.away = False
        self._note(kept, AWAY)
        kept.writer.flush()

    async def _join(self, kept: _Run) -> int:
        first_look = not kept.window
        kept.read_bytes = 0
        tails = (kept.tail, _TAIL_MAX, None) if Join(kept.window).twins == 1 else (None,)
        for tail in tails:
            news = await self._read(kept, Join(kept.window), tail)
            if news is not None:
                break
        else:
            self._note(kept, LOST)
            news = await self._read(kept, Join(()), None) or 0
        if first_look and kept.read_bytes >= self._engine_keeps_bytes:
            self._note(kept, EARLY)
            kept.writer.flush()
        kept.tail = min(_TAIL_MAX, max(_TAIL_MIN, 4 * news))
        return news

    async def _read(self, kept: _Run, join: Join, tail: int | None) -> int | None:
        """Records that were new, or None if this snapshot does not join."""
        news = 0
        try:
            async with aclosing(self._engine.logs(kept.container_id, tail=tail)) as chunks:
                async for chunk in chunks:
                    for record in pieces(chunk):
                        if join.is_new(record):
                            kept.writer.append(record)
                            kept.window.append(record)
                            kept.read_bytes += len(record.payload) + _ENGINE_OVERHEAD_BYTES
                            news += 1
        finally:
            kept.writer.flush()
        return news if join.joined else None

    def _note(self, kept: _Run, text: bytes) -> None:
        last = kept.window[-1].timestamp if kept.window else NO_TIME
        kept.writer.append(Record(last, "m", text))

    def _seal(self, kept: _Run) -> None:
        last = kept.window[-1].timestamp if kept.window else NO_TIME
        kept.writer.finish(Record(last, "e", b""))

"""Keeps what containers print, exactly once, across our crashes, the engine's rotation and its removal.

Measured on 20.10 with the `local` driver: following a log (`follow=1`) skips whole files when output is
faster than the reader, repeats parts, and stops short when the container ends. A snapshot (`follow=0`)
is faithful. So we read snapshots of the end, again and again, and join each to what is kept: records we
have are skipped, and if our last record is no longer among the engine's, output was lost and a note says
so. Joining is also how we resume after a kill, so that path is the only path. A snapshot of the last
thousand lines costs the engine about 10 ms.

This module says when which container's log is looked at, and what becomes of it where the disk or the engine
refuses; `kept` joins one log. While much comes, one look follows the other.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import UUID

import structlog

from service.errors import EngineError, LogBroken, NodeFull, NoSuchContainer, Unavailable
from service.supervisor.engine.protocol import Engine
from service.supervisor.logs.format import RunLog
from service.supervisor.logs.kept import KeptLog
from service.supervisor.logs.writer import LogLimits, LogWriter

log = structlog.get_logger()

_MUCH_BYTES = 1024**2
"""A look that found as much is followed by the next one at once."""
_BROKEN_TRIES = 3
BROKEN = b"output is missing here: the engine could not read its own log any further"
GONE = b"the container was gone before the end of its output was read"


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
        self._runs: dict[tuple[UUID, int], KeptLog] = {}

    def watch(self, job: UUID, run: int, container_id: str) -> None:
        """Begin to keep a container's output in the background, or go on; call it as often as you like.

        While the disk does not take it, the engine holds it, and the next call tries again.
        """
        try:
            kept = self._opened(job, run, container_id)
        except OSError as error:
            log.error("log not written", job=str(job), run=run, error=str(error))
            return
        if kept.complete:
            self._let_go(job, run)
        elif kept.task is None or kept.task.done():
            name = f"log {job}-{run}"
            kept.task = asyncio.create_task(self._keep_watching(job, run, kept), name=name)

    def missed(self, job: UUID, run: int, container_id: str) -> None:
        """The engine has begun anew, and lines may be missing: the next look says so in the log.

        Raises as `finish`.
        """
        with self._written(job, run):
            self._opened(job, run, container_id).missed()

    async def catch_up(self, job: UUID, run: int, container_id: str) -> int:
        """Keep what the engine has now; answers how many records were new. Raises as `Engine.logs`."""
        kept = self._opened(job, run, container_id)
        async with kept.turn:
            return 0 if kept.complete else await kept.join()

    async def finish(self, job: UUID, run: int, container_id: str) -> None:
        """Collect all output of an ended container and mark the log complete; then it may be removed.

        Idempotent. A container that is gone is noted in the log. Raises `Unavailable`: call again.
        """
        with self._written(job, run):
            kept = self._opened(job, run, container_id)
            async with kept.turn:
                if not kept.complete:
                    await self._collect(kept)
                    log.info("log complete", job=str(job), run=run)
        self._let_go(job, run)

    def seal(self, job: UUID, run: int, *, gone: bool = False) -> None:
        """Mark the log of a run complete that has no container (any more), so that nobody waits for it.

        `gone`: it may have had one, whose output was not read to its end; the log says so, unless it was
        complete before. Raises as `finish`.
        """
        with self._written(job, run):
            kept = self._opened(job, run, "")
            if not kept.complete:
                if gone:
                    kept.note(GONE)
                kept.seal()
        self._let_go(job, run)

    def is_here(self, job: UUID, run: int) -> bool:
        """Whether there is any file of the run's log. Raises `OSError`."""
        return bool(RunLog(self._root, job, run).numbers())

    async def close(self) -> None:
        """Stop watching. Nothing is lost: the next keeper joins where this one stopped."""
        tasks = [kept.task for kept in self._runs.values() if kept.task is not None]
        for job, run in list(self._runs):
            self._let_go(job, run)
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task

    @contextmanager
    def _written(self, job: UUID, run: int) -> Iterator[None]:
        """What the disk refuses can be tried again: with a writer that looks anew at what is there."""
        try:
            yield
        except OSError as error:
            if (kept := self._runs.get((job, run))) is not None:
                self._forget(job, run, kept)
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            kind = NodeFull if full else Unavailable
            raise kind(f"the log of {job}-{run} cannot be written: {error.strerror}") from error

    async def _keep_watching(self, job: UUID, run: int, kept: KeptLog) -> None:
        pause_s = self._busy_s
        while not kept.complete:
            try:
                async with kept.turn:
                    news = 0 if kept.complete else await kept.join()
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
            await self._pause(0 if news and kept.read_bytes >= _MUCH_BYTES else pause_s)

    async def _collect(self, kept: KeptLog) -> None:
        for attempt in range(_BROKEN_TRIES):
            try:
                await kept.join_all()
            except NoSuchContainer:
                kept.note(GONE)
            except LogBroken as error:
                # A rotation may have been under way. If not, no patience mends it, and a run does not
                # end badly for it.
                log.warning("engine's log broken", container=kept.container_id[:12], error=error.message)
                if attempt + 1 < _BROKEN_TRIES:
                    await self._pause(self._busy_s)
                    continue
                kept.note(BROKEN)
            break
        kept.seal()

    def _opened(self, job: UUID, run: int, container_id: str) -> KeptLog:
        kept = self._runs.get((job, run))
        if kept is None:
            writer = LogWriter(RunLog(self._root, job, run), self._limits)
            kept = KeptLog(self._engine, writer, container_id, engine_keeps_bytes=self._engine_keeps_bytes)
            self._runs[(job, run)] = kept
        return kept

    def _forget(self, job: UUID, run: int, kept: KeptLog) -> None:
        kept.writer.close()
        if self._runs.get((job, run)) is kept:
            del self._runs[(job, run)]

    def _let_go(self, job: UUID, run: int) -> None:
        kept = self._runs.pop((job, run), None)
        if kept is not None:
            if kept.task is not None:
                kept.task.cancel()
            kept.writer.close()

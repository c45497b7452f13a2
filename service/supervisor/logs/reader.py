"""Reads kept output, from any process, while it is being written or after."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from service.rounds import Rounds
from service.supervisor.logs.cursor import Cursor
from service.supervisor.logs.format import RunLog
from service.supervisor.logs.text import Asked, Last, Reading, Window

T = TypeVar("T")

#: Threads for all logs, and how many of them may be with who goes over much of one.
_THREADS, _SCANS = 4, 2
#: And of these with one project's: it never has all threads.
_EACH, _EACH_SCANS = 2, 1


class LogReader:
    """Serves runs' output below `root` as plain bytes, exactly as printed, notes of ours included as lines
    that begin with `[jobyard]`. A run that has no log yet reads as empty. Projects take turns: `project` is
    whose reader it is."""

    def __init__(
        self, root: Path, *, pause: Callable[[float], Awaitable[None]] = asyncio.sleep, poll_s: float = 0.5
    ) -> None:
        self._root = root
        self._pause = pause
        self._poll_s = poll_s
        #: Not those of the whole process: a disk that is slow is not to keep others from theirs.
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="logs")
        self._reads = Rounds(_THREADS, _EACH)
        self._scans = Rounds(_SCANS, _EACH_SCANS)

    async def read(
        self,
        job: UUID,
        run: int,
        *,
        project: str = "",
        tail: int | None = None,
        since: datetime | None = None,
        timestamps: bool = False,
        page: int | None = None,
        size: int = 1000,
    ) -> AsyncGenerator[bytes, None]:
        """What there is now, in chunks: lines not older than `since`, of these page `page` (from 1) of `size`
        lines if a page is asked for, of these the last `tail`. No more than a piece is ever held.

        An empty chunk says that nothing is wanted of what was read so far: who does not care any more can
        stop.
        """
        asked = Asked(RunLog(self._root, job, run), since, timestamps)
        reading = Reading(asked, Window() if page is None else Window((page - 1) * size, page * size))
        if tail is not None:
            near = await self._near_end(asked, tail, project) if page is None else None
            if near is not None:
                yield near[1]
                return
            last, counted = Last(tail), reading
            async for nothing in self._count(counted, last, project):
                yield nothing
            reading = counted.from_last(last)
            if reading is counted:
                yield last.text
                return
        async for text in self._all(reading, project):
            yield text

    async def follow(
        self,
        job: UUID,
        run: int,
        *,
        project: str = "",
        tail: int | None = None,
        since: datetime | None = None,
        timestamps: bool = False,
    ) -> AsyncGenerator[bytes | None, None]:
        """What there is (its last `tail` lines, if given), then what comes, until the log is complete. Empty
        chunks are as those of `read`. None says that all was read that there is now, and more is waited for.

        A log that does not exist yet is waited for.
        """
        asked = Asked(RunLog(self._root, job, run), since, timestamps)
        reading = Reading(asked)
        if tail is not None:
            near = await self._near_end(asked, tail, project)
            if near is None:
                last = Last(tail)
                async for nothing in self._count(reading, last, project):
                    yield nothing
                near = reading.from_last(last), last.text
            reading, text = near
            yield text
        while True:
            # All that is held while a client takes nothing is this text.
            async for text in self._all(reading, project):
                yield text
            if reading.complete:
                return
            yield None
            await self._pause(self._poll_s)

    async def _near_end(self, asked: Asked, tail: int, project: str) -> tuple[Reading, bytes] | None:
        """As `Reading.tail`; where a time is asked for, not all lines count, so none are looked for there."""
        return None if asked.since else await self._aside(project, Reading.tail, asked, tail)

    async def _count(self, reading: Reading, last: Last, project: str) -> AsyncGenerator[bytes, None]:
        """Count what there is for now; meanwhile empty chunks."""
        scans = False
        while not await self._aside(project, reading.counted, last, scans=scans):
            scans = True
            yield b""

    async def _all(self, reading: Reading, project: str) -> AsyncGenerator[bytes, None]:
        """What there is for now."""
        text: bytes | None = b""
        while (text := await self._aside(project, reading.text, scans=text is None)) != b"":
            yield text or b""

    async def _aside(self, project: str, work: Callable[..., T], *of: Any, scans: bool = False) -> T:
        """Do it in a thread, in the project's turn. `scans`: whoever goes over much of a log does so beside
        few others, and what all others want first of theirs goes before."""
        rounds = self._scans if scans else self._reads
        await rounds.begin(project)
        try:
            doing = self._threads.submit(work, *of)
        except RuntimeError:  # there is no thread to be had
            rounds.end(project)
            raise
        # The thread is the project's until it has done it, also for who waits for it no longer.
        doing.add_done_callback(partial(_ended, asyncio.get_running_loop(), partial(rounds.end, project)))
        return await asyncio.wrap_future(doing)

    async def exists(self, job: UUID, run: int, *, project: str = "") -> bool:
        """Whether there is any file of the run's log. Of a run that has ended there is, if only an end."""
        return bool(await self._aside(project, RunLog(self._root, job, run).numbers))

    async def complete(self, job: UUID, run: int) -> bool:
        """Whether all output of the run is here and no more will come."""
        cursor = Cursor(RunLog(self._root, job, run))
        await self._aside("", cursor.skip_to_end)
        await self._aside("", cursor.advance)
        return cursor.complete


def _ended(loop: asyncio.AbstractEventLoop, end: Callable[[], None], _: Future[Any]) -> None:
    """A thread has done its work. Nobody waits for its turn when the loop has ended, as the process does."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(end)

"""Reads kept output, from any process, while it is being written or after."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from service.supervisor.logs.cursor import Cursor
from service.supervisor.logs.format import RunLog
from service.supervisor.logs.text import Asked, Last, Reading, Window

T = TypeVar("T")

#: Threads for all logs, and how many of them may be with who goes over much of one.
_THREADS, _SCANS = 4, 2


class LogReader:
    """Serves runs' output below `root` as plain bytes, exactly as printed, notes of ours included as lines
    that begin with `[jobyard]`. A run that has no log yet reads as empty."""

    def __init__(
        self, root: Path, *, pause: Callable[[float], Awaitable[None]] = asyncio.sleep, poll_s: float = 0.5
    ) -> None:
        self._root = root
        self._pause = pause
        self._poll_s = poll_s
        #: Not those of the whole process: a disk that is slow is not to keep others from theirs.
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="logs")
        self._scans = asyncio.Semaphore(_SCANS)

    async def read(
        self,
        job: UUID,
        run: int,
        *,
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
            if since is None and page is None:
                short = await self._aside(Reading.tail, asked, tail)
                if short is not None:
                    yield short
                    return
            last, counted = Last(tail), reading
            while not await self._aside(counted.counted, last, scans=last.lines > 0):
                yield b""
            reading = counted.from_last(last)
            if reading is counted:
                yield last.text
                return
        async for text in self._all(reading):
            yield text

    async def follow(
        self,
        job: UUID,
        run: int,
        *,
        tail: int | None = None,
        since: datetime | None = None,
        timestamps: bool = False,
    ) -> AsyncGenerator[bytes, None]:
        """What there is (its last `tail` lines, if given), then what comes, until the log is complete. Empty
        chunks are as those of `read`.

        A log that does not exist yet is waited for.
        """
        reading = Reading(Asked(RunLog(self._root, job, run), since, timestamps))
        if tail is not None:
            last = Last(tail)
            while not await self._aside(reading.counted, last, scans=last.lines > 0):
                yield b""
            reading = reading.from_last(last)
            yield last.text
        while True:
            # All that is held while a client takes nothing is this text.
            async for text in self._all(reading):
                yield text
            if reading.complete:
                return
            await self._pause(self._poll_s)

    async def _all(self, reading: Reading) -> AsyncGenerator[bytes, None]:
        """What there is for now."""
        text: bytes | None = b""
        while (text := await self._aside(reading.text, scans=text is None)) != b"":
            yield text or b""

    async def _aside(self, work: Callable[..., T], *of: Any, scans: bool = False) -> T:
        """Do it in a thread. `scans`: whoever goes over much of a log does so beside few others, and what all
        others want first of theirs goes before."""
        loop = asyncio.get_running_loop()
        if not scans:
            return await loop.run_in_executor(self._threads, work, *of)
        async with self._scans:
            return await loop.run_in_executor(self._threads, work, *of)

    async def exists(self, job: UUID, run: int) -> bool:
        """Whether there is any file of the run's log. Of a run that has ended there is, if only an end."""
        return bool(await self._aside(RunLog(self._root, job, run).numbers))

    async def complete(self, job: UUID, run: int) -> bool:
        """Whether all output of the run is here and no more will come."""
        cursor = Cursor(RunLog(self._root, job, run))
        await self._aside(cursor.skip_to_end)
        await self._aside(cursor.advance)
        return cursor.complete

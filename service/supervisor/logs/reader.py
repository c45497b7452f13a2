"""Reads kept output, from any process, while it is being written or after."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import datetime
from pathlib import Path
from uuid import UUID

from service.supervisor.logs.cursor import Cursor
from service.supervisor.logs.format import RunLog
from service.supervisor.logs.text import Asked, Reading, Window


class LogReader:
    """Serves runs' output below `root` as plain bytes, exactly as printed, notes of ours included as lines
    that begin with `[jobyard]`. A run that has no log yet reads as empty."""

    def __init__(
        self, root: Path, *, pause: Callable[[float], Awaitable[None]] = asyncio.sleep, poll_s: float = 0.5
    ) -> None:
        self._root = root
        self._pause = pause
        self._poll_s = poll_s

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
        lines if a page is asked for, of these the last `tail`. No more than a piece is ever held."""
        asked = Asked(RunLog(self._root, job, run), since, timestamps)
        window = Window() if page is None else Window((page - 1) * size, page * size)
        reading = Reading(asked, window)
        if tail is not None:
            if since is None and page is None:
                short = await asyncio.to_thread(Reading.tail, asked, tail)
                if short is not None:
                    yield short
                    return
            counted = reading
            reading, text = await asyncio.to_thread(counted.last, tail)
            if reading is counted:
                yield text
                return
        while text := await asyncio.to_thread(reading.text):
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
        """What there is (its last `tail` lines, if given), then what comes, until the log is complete.

        A log that does not exist yet is waited for.
        """
        reading = Reading(Asked(RunLog(self._root, job, run), since, timestamps))
        if tail is not None:
            reading, text = await asyncio.to_thread(reading.last, tail)
            if text:
                yield text
        while True:
            # All that is held while a client takes nothing is this text.
            while text := await asyncio.to_thread(reading.text):
                yield text
            if reading.complete:
                return
            await self._pause(self._poll_s)

    async def complete(self, job: UUID, run: int) -> bool:
        """Whether all output of the run is here and no more will come."""
        cursor = Cursor(RunLog(self._root, job, run))
        await asyncio.to_thread(cursor.skip_to_end)
        await asyncio.to_thread(cursor.advance)
        return cursor.complete

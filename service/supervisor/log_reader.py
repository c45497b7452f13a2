"""Reads kept output, from any process, while it is being written or after."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from datetime import datetime
from pathlib import Path
from uuid import UUID

from service.supervisor.log_format import NO_TIME, Record, RunLog, stamp, whole_records

_READ_BYTES = 1024 * 1024
_TAIL_BYTES = 256 * 1024


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
    ) -> bytes:
        """What there is now: lines not older than `since`, of these page `page` (from 1) of `size` lines if
        a page is asked for, of these the last `tail`."""
        log = RunLog(self._root, job, run)
        return await asyncio.to_thread(_read, log, tail, since, timestamps, page, size)

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
        cursor = Cursor(RunLog(self._root, job, run))
        lines = _Lines(since, timestamps)
        held: deque[bytes] | None = deque(maxlen=tail) if tail is not None else None
        while True:
            records = await asyncio.to_thread(cursor.advance)
            text = lines.feed(records)
            if held is not None:
                held.extend(text)
            elif text:
                yield b"".join(text)
            if records and not cursor.complete:
                continue
            # Everything there was is read. A line without an end is shown too: it may be a prompt.
            rest = lines.rest()
            text = [*(held or ()), rest] if tail != 0 else []
            held = None
            if any(text):
                yield b"".join(text)
            tail = None
            if cursor.complete:
                return
            await self._pause(self._poll_s)

    async def complete(self, job: UUID, run: int) -> bool:
        """Whether all output of the run is here and no more will come."""
        cursor = Cursor(RunLog(self._root, job, run))
        await asyncio.to_thread(cursor.skip_to_end)
        await asyncio.to_thread(cursor.advance)
        return cursor.complete


class Cursor:
    """A place in a run's records that moves forward only; `advance` never gives half a record."""

    def __init__(self, log: RunLog) -> None:
        self._log = log
        self._number: int | None = None
        self._offset = 0
        self._total: int | None = 0
        self.complete = False

    def advance(self) -> list[Record]:
        """The next records (about a megabyte at most); none means: nothing more for now."""
        while not self.complete:
            # Ask for later segments first: what is in this one after that is all it will ever hold.
            later = [
                number for number in self._log.numbers() if self._number is None or number > self._number
            ]
            records = self._more()
            if records:
                return records
            if not later:
                return []
            self._number, self._offset = later[0], 0
        return []

    def skip_to_end(self, back_bytes: int = 4096) -> bool:
        """Go to the last `back_bytes` of the last segment; True if that is also the log's beginning."""
        numbers = self._log.numbers()
        if not numbers:
            return True
        self._number = numbers[-1]
        self._total = None  # not known, so the next segment's head can tell of no gap
        try:
            with self._log.segment(self._number).open("rb") as file:
                start = max(0, file.seek(0, os.SEEK_END) - back_bytes)
                file.seek(start)
                self._offset = start + (file.read().find(b"\n") + 1 if start else 0)
        except FileNotFoundError:
            self._number = None
        return self._number == 0 and self._offset == 0

    def _more(self) -> list[Record]:
        if self._number is None:
            return []
        try:
            with self._log.segment(self._number).open("rb") as file:
                file.seek(self._offset)
                data = file.read(_READ_BYTES)
                while len(data) >= _READ_BYTES and b"\n" not in data:
                    more = file.read(_READ_BYTES)
                    if not more:
                        break
                    data += more
        except FileNotFoundError:
            return []  # dropped by the writer's ring; the next segment's head tells what was lost
        records, taken = whole_records(data)
        self._offset += taken
        return list(self._account(records))

    def _account(self, records: list[Record]) -> Iterator[Record]:
        for record in records:
            if record.kind == "s":
                before = int(record.payload)
                if self._total is not None and before > self._total:
                    text = b"%d bytes of output were dropped here: the run's log is full" % (
                        before - self._total
                    )
                    yield Record(NO_TIME, "m", text)
                self._total = before
                continue
            if self._total is not None:
                self._total += len(record.encode())
            self.complete = self.complete or record.kind == "e"
            yield record


class _Lines:
    """Records in, finished lines of text out (newline included)."""

    def __init__(self, since: datetime | None, timestamps: bool) -> None:
        self._since = stamp(since) if since else ""
        self._timestamps = timestamps
        self._open = bytearray()
        self._shown = False

    def feed(self, records: list[Record]) -> list[bytes]:
        finished: list[bytes] = []
        for record in records:
            if record.kind == "e" or (record.kind != "m" and record.timestamp < self._since):
                continue
            if record.kind == "m":
                if self._open or self._shown:
                    finished.append(self._close())
                finished.append(b"[jobyard] " + record.payload + b"\n")
                continue
            if self._timestamps and not (self._open or self._shown):
                self._open += record.timestamp.encode() + b" "
            self._open += record.payload
            if record.complete_line:
                finished.append(self._close())
        return finished

    def rest(self) -> bytes:
        """The line that is not finished, as far as it was not given yet."""
        rest = bytes(self._open)
        self._shown = self._shown or bool(rest)
        self._open.clear()
        return rest

    def _close(self) -> bytes:
        line = bytes(self._open) + b"\n"
        self._open.clear()
        self._shown = False
        return line


def _read(
    log: RunLog, tail: int | None, since: datetime | None, timestamps: bool, page: int | None, size: int
) -> bytes:
    if tail is not None and since is None and page is None:
        short = _short_tail(log, tail, timestamps)
        if short is not None:
            return short
    lines = _all_lines(log, since, timestamps)
    if page is not None:
        lines = _page(lines, page, size)
    return b"".join(lines if tail is None else deque(lines, maxlen=tail))


def _short_tail(log: RunLog, tail: int, timestamps: bool) -> bytes | None:
    """The last lines from the end of the file alone; None if they do not lie there."""
    cursor = Cursor(log)
    if cursor.skip_to_end(_TAIL_BYTES):
        return None
    lines = deque(_drain(cursor, _Lines(None, timestamps)), maxlen=tail + 1)
    # One line more than wanted, because the first may have lost its beginning.
    if len(lines) <= tail:
        return None
    lines.popleft()
    return b"".join(lines)


def _all_lines(log: RunLog, since: datetime | None, timestamps: bool) -> Iterator[bytes]:
    return _drain(Cursor(log), _Lines(since, timestamps))


def _drain(cursor: Cursor, lines: _Lines) -> Iterator[bytes]:
    while records := cursor.advance():
        yield from lines.feed(records)
    if rest := lines.rest():
        yield rest


def _page(lines: Iterator[bytes], page: int, size: int) -> Iterator[bytes]:
    first = (page - 1) * size
    for index, line in enumerate(lines):
        if index >= first + size:
            return
        if index >= first:
            yield line

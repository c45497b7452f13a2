"""Reads kept output, from any process, while it is being written or after."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from datetime import datetime
from pathlib import Path
from uuid import UUID

from service.supervisor.logs.format import NO_TIME, Kind, Record, RunLog, stamp, whole_records

_READ_BYTES = 1024 * 1024
_TAIL_BYTES = 256 * 1024
_CHUNK_BYTES = 256 * 1024


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
        lines if a page is asked for, of these the last `tail`. Only a tail is ever held whole."""
        lines = _selected(RunLog(self._root, job, run), tail, since, timestamps, page, size)
        while chunk := await asyncio.to_thread(_gathered, lines):
            yield chunk

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
    """Records in, finished lines of text out (newline included). The two streams never mix within a line.

    The `local` driver of 20.10 drops the newline of a line beyond 16 KiB. Its pieces share a timestamp, so
    where the next piece of a stream has another one, that newline is put back.
    """

    def __init__(self, since: datetime | None, timestamps: bool) -> None:
        self._since = stamp(since) if since else ""
        self._timestamps = timestamps
        self._open: dict[Kind, tuple[str, bytearray]] = {}
        """By stream: the unfinished line's timestamp, and what of it was not given yet."""
        self._shown: Kind | None = None
        """The stream whose unfinished line a reader has already seen the beginning of."""

    def feed(self, records: list[Record]) -> list[bytes]:
        """The lines that these records finish."""
        finished: list[bytes] = []
        for record in records:
            if record.kind == "m":
                finished += [*self._ended_lines(), b"[jobyard] " + record.payload + b"\n"]
            elif record.kind != "e" and record.timestamp >= self._since:
                finished += self._grown(record)
        return finished

    def rest(self) -> bytes:
        """The unfinished lines, as far as they were not given yet."""
        text = bytearray()
        for kind, (_, rest) in self._open.items():
            if rest:
                text += self._break_before(kind) + rest
                self._shown = kind
                rest.clear()
        return bytes(text)

    def _grown(self, record: Record) -> list[bytes]:
        kind, lines = record.kind, list[bytes]()
        if kind in self._open and self._open[kind][0] != record.timestamp:
            lines.append(self._end(kind))
        if kind not in self._open:
            start = record.timestamp.encode() + b" " if self._timestamps else b""
            self._open[kind] = (record.timestamp, bytearray(start))
        self._open[kind][1].extend(record.payload)
        return [*lines, self._end(kind)] if record.complete_line else lines

    def _ended_lines(self) -> list[bytes]:
        return [self._end(kind) for kind in list(self._open)]

    def _end(self, kind: Kind) -> bytes:
        _, rest = self._open.pop(kind)
        line = self._break_before(kind) + bytes(rest) + b"\n"
        self._shown = None
        return line

    def _break_before(self, kind: Kind) -> bytes:
        """A newline if the other stream's unfinished line is what was shown last."""
        return b"" if self._shown in (None, kind) else b"\n"


def _gathered(lines: Iterator[bytes]) -> bytes:
    """The next lines, about `_CHUNK_BYTES` of them; empty when there are no more."""
    chunk = bytearray()
    for line in lines:
        chunk += line
        if len(chunk) >= _CHUNK_BYTES:
            break
    return bytes(chunk)


def _selected(
    log: RunLog, tail: int | None, since: datetime | None, timestamps: bool, page: int | None, size: int
) -> Iterator[bytes]:
    if tail is not None and since is None and page is None:
        short = _short_tail(log, tail, timestamps)
        if short is not None:
            yield from short
            return
    lines = _all_lines(log, since, timestamps)
    if page is not None:
        lines = _page(lines, page, size)
    yield from lines if tail is None else deque(lines, maxlen=tail)


def _short_tail(log: RunLog, tail: int, timestamps: bool) -> deque[bytes] | None:
    """The last lines from the end of the file alone; None if they do not lie there."""
    cursor = Cursor(log)
    if cursor.skip_to_end(_TAIL_BYTES):
        return None
    lines = deque(_drain(cursor, _Lines(None, timestamps)), maxlen=tail + 1)
    # One line more than wanted, because the first may have lost its beginning.
    if len(lines) <= tail:
        return None
    lines.popleft()
    return lines


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

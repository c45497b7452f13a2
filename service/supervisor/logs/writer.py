"""Appends one run's records to its segments, and finds its place again after any crash."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from service.errors import Misconfigured
from service.supervisor.logs.format import (
    NO_TIME,
    Record,
    RunLog,
    decode,
    head_of,
    segment_head,
    whole_records,
)

_BUFFER_BYTES = 256 * 1024

WINDOW = 1024
"""Records recalled at least, if there are as many: enough to find our place in any snapshot of the engine,
unless one line of more than 16 MB repeats the same 16 KiB throughout."""
DAMAGED = b"this log was damaged on the node's disk: output from before this line may be missing"


@dataclass(frozen=True, slots=True)
class LogLimits:
    """`cap_bytes` a run may take on disk: half for its beginning, half for a ring of `ring` segments with
    its end. What lies between is dropped, and every reader is told how much."""

    cap_bytes: int = 64 * 1024**2
    ring: int = 4

    def __post_init__(self) -> None:
        if self.ring < 2 or self.ring_segment_bytes < 64 * 1024:
            raise Misconfigured("a run's log needs at least 2 ring segments of 64 KiB")

    @property
    def head_bytes(self) -> int:
        return self.cap_bytes // 2

    @property
    def ring_segment_bytes(self) -> int:
        return self.cap_bytes // 2 // self.ring


class LogWriter:
    """One writer per run, in one process. Records are on disk after `flush`; `complete` is final.

    Opening repairs: an unfinished last line is cut off, an empty segment gets a head. One that begins with
    something else, as after a power cut, is left as it is: the log goes on in the next, and says so.
    """

    def __init__(self, log: RunLog, limits: LogLimits) -> None:
        self._log = log
        self._limits = limits
        self._buffer = bytearray()
        log.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        numbers = log.numbers()
        self._number = numbers[-1] if numbers else 0
        self.recalled = self._recall(numbers)
        """The last records that were kept, oldest first."""
        self.complete = bool(self.recalled) and self.recalled[-1].kind == "e"
        self._file = os.open(log.segment(self._number), os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600)
        try:
            self._size, self._total = self._repair(numbers)
            if not self.complete and head_of(self._file) is None:
                self._next_segment()
                self.append(Record(NO_TIME, "m", DAMAGED))
                self.flush()
        except OSError:
            self.close()
            raise

    def append(self, record: Record) -> None:
        """Keep one record; it may stay in memory until `flush`."""
        self._append(record.encode())

    def append_encoded(self, lines: list[bytes]) -> None:
        """Keep records that are encoded already, many at once, as `append`."""
        together = b"".join(lines)
        if len(together) < _BUFFER_BYTES and self._size + len(together) <= self._limit:
            self._append(together)
            return
        for line in lines:
            self._append(line)

    @property
    def _limit(self) -> int:
        """Of the segment that is being written."""
        return self._limits.head_bytes if self._number == 0 else self._limits.ring_segment_bytes

    def _append(self, line: bytes) -> None:
        if len(self._buffer) >= _BUFFER_BYTES:
            self.flush()
        if self._size + len(line) > self._limit:
            self._next_segment()
        self._buffer += line
        self._size += len(line)
        self._total += len(line)

    def flush(self) -> None:
        """Raises `OSError`, also when somebody else has written: a supervisor that was stopped past its lease
        and goes on, or the one that took over from us. What we would add may be there already."""
        if self._buffer and os.fstat(self._file).st_size != self._size - len(self._buffer):
            self._buffer.clear()
            raise OSError(f"{self._log.segment(self._number).name} was written by another")
        while self._buffer:
            written = os.write(self._file, self._buffer)
            del self._buffer[:written]

    def finish(self, end: Record) -> None:
        """Write the end record and see it through to the disk."""
        self.append(end)
        self.flush()
        os.fsync(self._file)
        self.complete = True

    def close(self) -> None:
        """Idempotent; what was not flushed is forgotten and will be read from the engine again."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _next_segment(self) -> None:
        self.flush()
        self.close()
        self._number += 1
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND
        self._file = os.open(self._log.segment(self._number), flags, 0o600)
        self._size = os.write(self._file, segment_head(self._total))
        for number in self._log.numbers():
            if 0 < number <= self._number - self._limits.ring:
                self._log.segment(number).unlink(missing_ok=True)

    def _recall(self, numbers: list[int]) -> list[Record]:
        found: list[Record] = []
        for number in numbers[-2:]:
            found += [record for record in _last_records(self._log.segment(number)) if record.kind != "s"]
        return found

    def _repair(self, numbers: list[int]) -> tuple[int, int]:
        """Size of the current segment, and bytes of records of the whole run; the file ends with a record."""
        size = os.fstat(self._file).st_size
        keep = _end_of_last_line(self._file, size)
        if keep < size:
            os.ftruncate(self._file, keep)
        if keep == 0:
            before = self._total_of(numbers[:-1])
            return os.write(self._file, segment_head(before)), before
        return keep, self._total_of(numbers)

    def _total_of(self, numbers: list[int]) -> int:
        """Bytes of records in the run up to the end of the last of these segments, as its head counts them.
        Where that is lost, as a reader does."""
        if not numbers:
            return 0
        with self._log.segment(numbers[-1]).open("rb") as file:
            head = head_of(file.fileno())
            if head is not None:
                before, head_size = head
                return before + os.fstat(file.fileno()).st_size - head_size
            found = sum(len(line) for line in file if decode(line.removesuffix(b"\n")) is not None)
        return self._total_of(numbers[:-1]) + found


def _end_of_last_line(file: int, size: int) -> int:
    end = size
    while end > 0:
        start = max(0, end - _BUFFER_BYTES)
        found = os.pread(file, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _last_records(path: Path) -> list[Record]:
    """At least the last WINDOW records, or all."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        back = _BUFFER_BYTES
        while True:
            start = max(0, size - back)
            file.seek(start)
            data = file.read(size - start)
            records, _ = whole_records(data[data.find(b"\n") + 1 :] if start else data)
            if start == 0 or len(records) >= WINDOW:
                return records
            back *= 4

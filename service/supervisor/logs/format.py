"""How a run's output lies on disk: records, and the segments that keep it within its cap.

A record is one line of the file: `<timestamp> <kind><end> <payload>\\n`. The timestamp is the engine's (30
characters), the kind 1 stdout, 2 stderr, m a note of ours, s the head of a segment, e the end of the log;
the end `.` says that the payload had a newline, `+` that it did not. A payload holds no newline (`pieces`
sees to it) and any other byte, so a file cut at any byte loses no more than its last, unfinished line.

`<run>.log` is the first segment and holds the beginning. Output beyond it goes to `<run>.log.000001` and
so on, of which only the last few are kept. Each segment's head tells how many bytes of records came before
it in the run, so a reader knows the size of a gap without anything else having been written down.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal
from uuid import UUID

from service.domain.times import in_utc
from service.supervisor.engine.protocol import LogChunk

Kind = Literal["1", "2", "m", "s", "e"]

STAMP_LENGTH = 30
HEADER_LENGTH = STAMP_LENGTH + 4
NO_TIME = "0001-01-01T00:00:00.000000000Z"

_KINDS: dict[bytes, Kind] = {b"1": "1", b"2": "2", b"m": "m", b"s": "s", b"e": "e"}


@dataclass(frozen=True, slots=True)
class Record:
    """One record; `complete_line` says whether the payload ended with a newline."""

    timestamp: str
    kind: Kind
    payload: bytes
    complete_line: bool = True

    def encode(self) -> bytes:
        end = "." if self.complete_line else "+"
        return b"%b %b%b %b\n" % (self.timestamp.encode(), self.kind.encode(), end.encode(), self.payload)


def decode(line: bytes) -> Record | None:
    """The record of a line without its newline; None when it is none of ours (a disk's leftovers)."""
    kind = _KINDS.get(line[STAMP_LENGTH + 1 : STAMP_LENGTH + 2])
    end = line[STAMP_LENGTH + 2 : STAMP_LENGTH + 3]
    blanks = line[STAMP_LENGTH : STAMP_LENGTH + 1] + line[HEADER_LENGTH - 1 : HEADER_LENGTH]
    stamp = line[:STAMP_LENGTH]
    payload = line[HEADER_LENGTH:]
    if kind is None or end not in (b".", b"+") or blanks != b"  " or not _stamp_like(stamp):
        return None
    if kind == "s" and not payload.isdigit():
        return None
    return Record(stamp.decode("ascii"), kind, payload, end == b".")


def _stamp_like(stamp: bytes) -> bool:
    return stamp.isascii() and stamp[4:5] == b"-" and stamp[10:11] == b"T" and stamp.endswith(b"Z")


_WHOLE_LINE = {1: b" 1. ", 2: b" 2. "}


def encoded(chunks: Iterable[LogChunk]) -> list[bytes]:
    """The chunks' records as they lie in the file, each with its newline."""
    lines: list[bytes] = []
    for chunk in chunks:
        payload = chunk.payload
        if payload.find(b"\n") == len(payload) - 1 and payload:
            lines.append(chunk.timestamp.encode() + _WHOLE_LINE[chunk.stream] + payload)
        else:
            lines += [record.encode() for record in pieces(chunk)]
    return lines


def pieces(chunk: LogChunk) -> Iterator[Record]:
    """A chunk as records; more than one only if an engine put several lines into a chunk."""
    kind: Kind = "1" if chunk.stream == 1 else "2"
    *lines, rest = chunk.payload.split(b"\n")
    for line in lines:
        yield Record(chunk.timestamp, kind, line)
    if rest:
        yield Record(chunk.timestamp, kind, rest, complete_line=False)


def stamp_of(line: bytes) -> bytes:
    """The timestamp of an encoded record."""
    return line[:STAMP_LENGTH]


def whole_records(data: bytes) -> tuple[list[Record], int]:
    """The records that are complete in `data`, and how many bytes they take; foreign lines are left out."""
    end = data.rfind(b"\n") + 1
    decoded = (decode(line) for line in data[:end].split(b"\n")[:-1])
    return [record for record in decoded if record is not None], end


def stamp(moment: datetime) -> str:
    """An aware time in the records' form, so that it compares with theirs as text."""
    # Not `strftime`: it writes the year 1 with one digit.
    return f"{in_utc(moment).replace(tzinfo=None).isoformat(timespec='microseconds')}000Z"


@dataclass(frozen=True, slots=True)
class RunLog:
    """Where one run's segments are. The job is a UUID, never text that could lead elsewhere."""

    root: Path
    job: UUID
    run: int

    @property
    def folder(self) -> Path:
        return self.root / str(self.job)

    def segment(self, number: int) -> Path:
        """Number 0 is the beginning."""
        return self.folder / (f"{self.run}.log.{number:06d}" if number else f"{self.run}.log")

    def numbers(self) -> list[int]:
        """The segments there are now, in order."""
        if not self.folder.is_dir():
            return []
        start = f"{self.run}.log."
        names = [path.name for path in self.folder.iterdir()]
        tails = [name.removeprefix(start) for name in names if name.startswith(start)]
        # Somebody may have laid a copy beside them, under a name that only looks like one.
        found = {0} | {int(tail) for tail in tails if tail.isascii() and tail.isdigit()}
        return sorted(number for number in found if self.segment(number).name in names)


def segment_head(before_bytes: int) -> bytes:
    return Record(NO_TIME, "s", b"%d" % before_bytes).encode()


def head_of(file: int) -> tuple[int, int] | None:
    """What a segment's head says, and its length; None where it has another first line."""
    records, _ = whole_records(os.pread(file, 256, 0).partition(b"\n")[0] + b"\n")
    if not records or records[0].kind != "s":
        return None
    return int(records[0].payload), len(records[0].encode())

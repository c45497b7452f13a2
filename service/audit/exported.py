"""Verifying an export without a database: each line for itself, and all of them together.

What does not hold is named by the event's position as well as by the line. A line that was damaged may no
longer say where it belongs; then what its neighbours say counts, as they say it too.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import msgspec

from service.audit.evidence import Evidence
from service.audit.export import Header, Line, Trailer, encode
from service.audit.proofs import is_included, signed_checkpoint, unhexed
from service.domain.checkpoint import Checkpoint, NotACheckpoint, PublicKey, origin_of
from service.domain.events import BODIES, decode_body
from service.errors import Invalid, LedgerCorrupt
from service.ledger.chain import GENESIS, UNREADABLE

T = TypeVar("T")
_OUTER = re.compile(rb'"hash":"[^"]{0,80}","position":(\d{1,18}),"previous":"')
_INNER = re.compile(rb'"position":(\d{1,18}),"project":')
_AFTER = re.compile(rb'\A\{"after":(\d{1,18}),')


class ExportCorrupt(LedgerCorrupt):
    """`line` counts from 1; `position` is 0 where no event is bad, but the first or the last line."""

    code = "export-corrupt"

    def __init__(self, line: int, position: int, message: str) -> None:
        super().__init__(position, f"line {line}: {message}")
        self.line = line


class Exported(NamedTuple):
    """What an export holds, once verified. Up to position `compared` a witness could tell of its events."""

    header: Header
    checkpoint: Checkpoint
    events: int
    first: int
    last: int
    compared: int = 0


class _Event(msgspec.Struct, frozen=True):
    """What is read of an event; the hash covers all of it."""

    position: int
    type: str
    data: msgspec.Raw


async def check(path: Path, key: PublicKey | None, witness: Evidence | None = None) -> Exported:
    """Verify a file. With a key the checkpoint must be signed by it; a witness is asked about it and about
    each event too, and one that cannot tell of any gets a problem that says so. Raises `ExportCorrupt`, or
    `Invalid` for what is no export at all.
    """
    try:
        with path.open("rb") as file:
            total = sum(1 for _ in file)
            file.seek(0)
            lines = iter(file)
            first = next(lines, b"")
            return await _Check(path, first, total, key, witness).all(lines)
    except IsADirectoryError as error:
        raise Invalid("FILE", str(path), "it is a folder; name the file of an export") from error


def ledger_of(path: Path) -> UUID:
    """The ledger that a file says it is of. Raises `Invalid` for what is no export."""
    with path.open("rb") as file:
        header = _canonical(file.readline(), Header)
    if header is None:
        raise Invalid("FILE", str(path), "its first line is not that of an export")
    return header.ledger


class _Check:
    def __init__(
        self, path: Path, first: bytes, total: int, key: PublicKey | None, witness: Evidence | None
    ) -> None:
        self._path = path
        self._total = total
        self._witness = witness
        self._header_hash = hashlib.sha256(first).hexdigest()
        self._summed = hashlib.sha256(first)
        self._trailer = self._read_trailer()
        if self._trailer is not None and self._trailer.header != self._header_hash:
            raise ExportCorrupt(1, 0, "the first line is not the one that was written, or the last is not")
        self.header = self._read_header(first)
        self._checkpoint = self._signed(key)
        #: The tree can be grown again from a file that has every event from the first on.
        self._grows = self.header.kind == "whole" and self.header.after == 0
        self._compared = 0 if witness is None else self._comparable(witness)
        self._number = 1
        self._last = 0
        self._first = 0
        self._hash = GENESIS

    def _read_trailer(self) -> Trailer | None:
        """The last line; None when it is none, which is told of when it is come to."""
        with self._path.open("rb") as file:
            last = b""
            for last in file:  # noqa: B007 (the last one is wanted)
                pass
        return _canonical(last, Trailer)

    def _read_header(self, first: bytes) -> Header:
        header = _canonical(first, Header)
        if header is None:
            if not first.startswith(b'{"after":') and self._trailer is None:
                raise Invalid("FILE", str(self._path), "it is no file that `jobyard audit export` wrote")
            raise ExportCorrupt(1, 0, "the first line cannot be read as an export's")
        return header

    def _signed(self, key: PublicKey | None) -> Checkpoint:
        try:
            found = signed_checkpoint(self.header.checkpoint, key)
        except NotACheckpoint as error:
            raise ExportCorrupt(1, 0, f"the checkpoint does not hold: {error}") from error
        header = self.header
        if found.origin != origin_of(header.ledger) or found.epoch != header.epoch:
            raise ExportCorrupt(
                1, 0, f"the checkpoint is of {found.origin}, and the export of {header.ledger}"
            )
        if not 0 <= header.after <= header.upto <= found.size or (header.kind == "whole") is bool(header.of):
            raise ExportCorrupt(1, 0, "what it says of itself cannot be")
        return found

    def _comparable(self, witness: Evidence) -> int:
        """Up to which event the witness can tell. It tells of all where it has this very checkpoint."""
        size = self._checkpoint.size
        roots = {each.size: each.root for each in witness.checkpoints}
        if roots.get(size, self._checkpoint.root) != self._checkpoint.root:
            raise ExportCorrupt(
                1, 0, f"the checkpoint of size {size} is not the one that was kept: its root is another"
            )
        grown = [each for each in roots if self._grows and each <= self.header.upto]
        return max(size if size in roots else 0, witness.told, *grown, 0)

    async def all(self, lines: Iterator[bytes]) -> Exported:
        if self.header.kind == "whole":
            self._last = self.header.after
        line = next(lines, b"")
        while line:
            following = next(lines, b"")
            self._number += 1
            if not following:
                return self._end(line)
            await self._event(line, following)
            self._summed.update(line)
            line = following
        raise ExportCorrupt(2, self._expected, "the file ends after its first line")

    @property
    def _expected(self) -> int:
        """Where the next event belongs in a whole export; where it may belong at the earliest in a part."""
        return self._last + 1

    async def _event(self, line: bytes, following: bytes) -> None:
        read = _canonical(line, Line)
        if read is None:
            raise self._bad(line, following, "cannot be read")
        try:
            event = msgspec.json.decode(read.event, type=_Event)
        except UNREADABLE:
            raise self._bad(line, following, "cannot be read") from None
        previous, own = unhexed(read.previous), unhexed(read.hash)
        if previous is None or own != hashlib.sha256(previous + bytes(read.event)).digest():
            raise self._bad(line, following, "does not match its hash")
        at = event.position
        if read.position != at:
            raise self._bad(line, following, "does not stand at its position", at)
        self._require_in_turn(at, read, previous, line, following)
        if not is_included(at, own, read.proof, self._checkpoint):
            raise self._bad(line, following, "is not in the tree of the checkpoint", at)
        if event.type in BODIES:
            try:
                decode_body(event.type, bytes(event.data))
            except UNREADABLE as error:
                raise self._bad(line, following, f"cannot be read: {error}", at) from error
        if self._witness is not None:
            if not await self._witness.is_as_signed(at, own):
                raise self._bad(line, following, "is not the one that was signed", at)
            self._grow(self._witness, at, own)
        self._last, self._hash, self._first = at, own, self._first or at

    def _grow(self, witness: Evidence, at: int, own: bytes) -> None:
        if not self._grows:
            return
        try:
            witness.check(at, own)
        except LedgerCorrupt as error:
            raise ExportCorrupt(self._number, error.position, error.message) from error

    def _require_in_turn(self, at: int, read: Line, previous: bytes, line: bytes, following: bytes) -> None:
        """The events come in order, and none is left out that should be there."""
        before = 0 if not self._first else self._last
        if self.header.kind == "whole":
            if at != self._expected:
                self._require_once(at)
                raise self._missing(self._expected, at)
            if self._first and previous != self._hash:
                raise self._bad(line, following, "does not follow the one before it", at)
            if read.after != before:
                raise self._bad(line, following, "does not say which one is before it", at)
            return
        self._require_once(at)
        if not max(self.header.after, before) < at <= self.header.upto:
            raise self._bad(line, following, "does not belong here", self._misplaced(at))
        if read.after == before:
            return
        if (misplaced := self._misplaced(at)) != at:
            raise ExportCorrupt(self._number, misplaced, f"event {misplaced} belongs here, where {at} stands")
        if before < read.after < at and self._is_short():
            raise self._missing(read.after, at)
        raise self._bad(line, following, "does not say which one is before it", at)

    def _require_once(self, at: int) -> None:
        if not self._first or not self._first <= at <= self._last:
            return
        with self._path.open("rb") as file:
            for number, line in zip(range(1, self._number), file, strict=False):
                outer = _OUTER.search(line)
                if outer is not None and int(outer[1]) == at:
                    raise ExportCorrupt(
                        self._number, at, f"event {at} stands twice: it is in line {number}, too"
                    )

    def _missing(self, missing: int, at: int) -> ExportCorrupt:
        return ExportCorrupt(self._number, missing, f"event {missing} is missing: {at} follows {self._last}")

    def _misplaced(self, at: int) -> int:
        """The event that belongs here, if it stands further down; else the one that stands here."""
        before, found = (0 if not self._first else self._last), at
        with self._path.open("rb") as file:
            for number, line in enumerate(file, 1):
                outer = _OUTER.search(line)
                if number > self._number and outer is not None and before < int(outer[1]) < found:
                    found = int(outer[1])
        return found

    def _is_short(self) -> bool:
        return self._trailer is None or self._trailer.events > self._total - 2

    def _bad(self, line: bytes, following: bytes, why: str, at: int | None = None) -> ExportCorrupt:
        if at is None:
            at = self._expected if self.header.kind == "whole" else self._named(line, following)
        return ExportCorrupt(self._number, at, f"event {at} {why}")

    def _named(self, line: bytes, following: bytes) -> int:
        """Which event a damaged line is of: what most of those say that should say it."""
        split = not following.startswith((b'{"after":', b'{"events":'))  # a line's end was put into it
        whole = line + following if split else line
        said = Counter(
            int(found[1])
            for found in (_OUTER.search(whole), _INNER.search(whole), _AFTER.search(following))
            if found is not None and int(found[1]) > (self._last if self._first else 0)
        )
        return said.most_common(1)[0][0] if said else self._expected

    def _end(self, line: bytes) -> Exported:
        header, count = self.header, self._number - 2
        last = self._last if self._first else 0
        ended = Trailer(
            events=count,
            first=self._first,
            last=last,
            header=self._header_hash,
            sha256=self._summed.hexdigest(),
        )
        short = self._trailer is None or self._trailer.events > count
        if header.kind == "whole" and self._last < header.upto:
            raise ExportCorrupt(
                self._number,
                self._expected,
                f"event {self._expected} is missing: the file ends at {self._last}, not at {header.upto}",
            )
        if encode(ended) + b"\n" != line:
            if self._trailer is None and line.startswith(b'{"after":'):
                at = self._named(line, b"")
                raise ExportCorrupt(self._number, at, f"event {at} cannot be read, or the file is cut off")
            if self._trailer is not None and short and self._trailer.sha256 != ended.sha256:
                at = self._trailer.last if self._trailer.last > last else self._expected
                raise ExportCorrupt(
                    self._number, at, f"event {at} is missing: the last line counts {self._trailer.events}"
                )
            raise ExportCorrupt(self._number, 0, "the last line is not the one that was written")
        if self._witness is not None and self._first > self._compared:
            self._witness.tells_nothing_of(self._checkpoint.size)
        return Exported(header, self._checkpoint, count, self._first, last, self._compared)


def _canonical(line: bytes, kind: type[T]) -> T | None:
    """A line by its type; None unless it is, to the byte, what would be written."""
    try:
        found: Any = msgspec.json.decode(line, type=kind)
        return found if encode(found) + b"\n" == line else None
    except UNREADABLE:
        return None

"""A database in memory: what is committed, what a transaction adds to it, and what the schema refuses."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from projections.catalogue import FOLDS
from service.ledger.chain import GENESIS
from tests.chaos.simulation.locks import Holder, RowLock
from tests.chaos.simulation.process import Process

LEDGER_ID = UUID(int=0x5EED)
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
CHANNEL = "jobyard"
_COLUMNS = (
    *("position", "project", "job", "run", "type", "data", "occurred_at"),
    *("actor", "command_id", "request_id", "hash", "client_address"),
)
#: Of the fold in whose rows no two may have the same `sha256`.
_TOKENS = "tokens"
_STORED = (*_COLUMNS[:7], "recorded_at", *_COLUMNS[7:])
_REQUIRED = ("position", "type", "data", "occurred_at", "recorded_at", "actor", "command_id", "hash")
_TEXTS = ("project", "type", "actor", "request_id", "client_address")


class Record(dict[str, Any]):
    """A row: by name, and its values in their order."""

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values())


@dataclass
class Changes:
    """What one transaction has added or changed; nobody else sees it."""

    events: list[Record] = field(default_factory=list)
    commands: dict[UUID, Record] = field(default_factory=dict)
    folds: dict[tuple[str, str], str] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    leases: dict[str, Record] = field(default_factory=dict)
    keys: dict[str, Record] = field(default_factory=dict)
    head: tuple[int, bytes, datetime] | None = None
    said: dict[str, None] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.head is not None or bool(self.leases or self.keys)


class Postgres:
    """What is committed. `on_commit` is told of each commit that has events: by which process, and them."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.skew = timedelta()
        #: How often its clock was set.
        self.jumps = 0
        self.lost_rate = 0.0
        self.events: list[Record] = []
        self.commands: dict[UUID, Record] = {}
        self.folds: dict[tuple[str, str], str] = {}
        #: Whose token has which hash: the one index of a fold that refuses something.
        self.hashes: dict[str, str] = {}
        self.leases: dict[str, Record] = {}
        self.keys: dict[str, Record] = {}
        self.position, self.hash, self.recorded_at = 0, GENESIS, BEGINNING
        self.rebuilds = 0
        self.head_lock = RowLock()
        self.lease_locks: dict[str, RowLock] = {}
        self.key_locks: dict[str, RowLock] = {}
        #: Who listens, in the order in which they began to.
        self.listeners: dict[object, Callable[[str], object]] = {}
        self.lost = 0
        self.on_commit: Callable[[Process, list[Record]], None] = lambda process, records: None
        self.on_repeat: Callable[[UUID], None] = lambda command: None
        #: Told of a process that knows that it has the lease.
        self.on_lease: Callable[[Process], None] = lambda process: None
        #: Told of a lease that is written, by whoever asked for that: it may be stopped or dead by now.
        self.on_renewal: Callable[[Process], None] = lambda process: None
        self._finishing: set[asyncio.Task[None]] = set()

    def jump(self, by_s: float) -> None:
        """Its clock is set forward, or back."""
        self.skew += timedelta(seconds=by_s)
        self.jumps += 1

    def clock(self) -> datetime:
        return BEGINNING + timedelta(seconds=asyncio.get_running_loop().time()) + self.skew

    def row(self, fold: str, key: str) -> Any:
        text = self.folds.get((fold, key))
        return None if text is None else FOLDS[fold].decoder.decode(text)

    def read_after(self, changes: Changes, after: int, upto: int, limit: int) -> list[Record]:
        seen = [*self.events, *changes.events] if changes.events else self.events
        first = bisect_right(seen, after, key=_position)
        return seen[first : min(bisect_right(seen, upto, key=_position), first + limit)]

    # -- what the schema refuses ------------------------------------------------------------------------

    def append(self, changes: Changes, args: tuple[Any, ...]) -> None:
        """The statement that appends: all of it, or an error, with which the transaction ends in nothing."""
        events, commands, made, changed, position, head_hash, now = args
        new = [_stored(each, now) for each in events]
        taken = {record["position"] for record in changes.events}
        for record in new:
            _check_event(record)
            position = record["position"]
            if position in taken or self.read_after(Changes(), position - 1, position, 1):
                raise asyncpg.UniqueViolationError("events_pkey")
            taken.add(position)
        changes.events += new
        changes.events.sort(key=_position)
        self.keep(changes, commands)
        for fold, key, *_ in made:
            if (fold, key) in self.folds or (fold, key) in changes.folds:
                raise asyncpg.UniqueViolationError("folds_pkey")
        self._fold(changes, list(made))
        self._fold(changes, list(changed))
        _require(position, head_hash, now)
        changes.head = (position, head_hash, now)
        changes.said[str(position)] = None

    def keep(self, changes: Changes, commands: Sequence[tuple[Any, ...]]) -> None:
        for command, digest, first, last in commands:
            if command in self.commands or command in changes.commands:
                self.on_repeat(command)
                raise asyncpg.UniqueViolationError("commands_pkey")
            _require(first, last, command)
            changes.commands[command] = Record(
                id=command, digest=digest, first_position=first, last_position=last
            )

    def _fold(self, changes: Changes, rows: list[tuple[str, str, int, str]]) -> None:
        for fold, key, position, row in rows:
            _require(fold, key, position, row)
            if fold not in FOLDS:
                raise asyncpg.CheckViolationError(f"no partition of relation folds found for row ({fold})")
            _check_text(key)
            _check_json(row)
            if "\\u0000" in row.replace("\\\\", ""):
                raise asyncpg.UntranslatableCharacterError("jsonb has no place for \\u0000")
            if fold == _TOKENS:
                sha256 = msgspec.json.decode(row)["sha256"]
                if changes.hashes.get(sha256, self.hashes.get(sha256, key)) != key:
                    raise asyncpg.UniqueViolationError("tokens_hash")
                changes.hashes[sha256] = key
            changes.folds[fold, key] = row
        if len({(fold, key) for fold, key, *_ in rows}) < len(rows):
            raise asyncpg.CardinalityViolationError("a row is changed a second time")

    # -- the end of a transaction -----------------------------------------------------------------------

    def apply(self, process: Process, changes: Changes) -> None:
        """Commit."""
        self.events += changes.events
        self.commands |= changes.commands
        self.folds |= changes.folds
        if changes.hashes:
            gone = set(changes.hashes.values())
            self.hashes = {k: v for k, v in self.hashes.items() if v not in gone} | changes.hashes
        self.leases |= changes.leases
        if changes.leases:
            self.on_renewal(process)
        self.keys |= changes.keys
        if changes.head is not None:
            self.position, self.hash, self.recorded_at = changes.head
            self.on_commit(process, changes.events)
        for payload in changes.said:
            for heard in list(self.listeners.values()):
                heard(payload)

    def finish(self, process: Process, changes: Changes, session: Holder, locks: list[RowLock]) -> None:
        """A commit whose reply is lost, and that is not done yet: it keeps its locks meanwhile."""
        backend = _Backend()
        for lock in locks:
            lock.hand(session, backend)

        async def later() -> None:
            await asyncio.sleep(self.chance.uniform(0, 2))
            self.apply(process, changes)
            for lock in locks:
                lock.give(backend)

        task = asyncio.create_task(later())
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)


class _Backend:
    """What is left of a session whose client is gone in the middle of its commit."""

    def idle_until(self) -> float:
        return float("inf")

    def end(self) -> None:
        """It is at work, and ends by itself."""


def _stored(event: tuple[Any, ...], recorded_at: datetime) -> Record:
    """An event as its table has it, whose `recorded_at` is the head's."""
    *first, actor, command, request, digest, address = event
    return Record(zip(_STORED, (*first, recorded_at, actor, command, request, digest, address), strict=True))


def _position(record: Record) -> int:
    position: int = record["position"]
    return position


def _check_event(record: Record) -> None:
    _require(*(record[name] for name in _REQUIRED))
    for name in _TEXTS:
        _check_text(record[name])
    _check_json(record["data"])
    if len(record["hash"]) != 32:
        raise asyncpg.CheckViolationError("events_hash_check")


def _require(*values: Any) -> None:
    if any(value is None for value in values):
        raise asyncpg.NotNullViolationError("null value")


def _check_text(text: str | None) -> None:
    if text is not None and "\0" in text:
        raise asyncpg.CharacterNotInRepertoireError("invalid byte sequence: 0x00")


def _check_json(text: str) -> None:
    _check_text(text)
    try:
        msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise asyncpg.InvalidTextRepresentationError(f"invalid input syntax for type json: {error}") from None

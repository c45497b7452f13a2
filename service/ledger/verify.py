"""Verifying the ledger: recompute the chain and name the first event that does not hold."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from service.domain.events import BODIES, decode_body
from service.errors import LedgerCorrupt
from service.ledger.chain import GENESIS, UNREADABLE, Sealing, link, sealing_of
from service.ledger.database import translated
from service.ledger.read import END, PAGE
from sql import queries

_SQL = queries("ledger")


class Verified(NamedTuple):
    """A ledger that holds: how many events, and the hash of the last."""

    events: int
    hash: bytes


class Witness(Protocol):
    """What was known of the ledger's events elsewhere. Raises `LedgerCorrupt` for what is not so."""

    async def load(self, first: int, last: int) -> None:
        """Those events will be shown next."""

    def check(self, position: int, chain_hash: bytes) -> None:
        """An event, with the hash that is kept beside it; each in its turn."""

    def end(self, position: int) -> None:
        """That was the last one."""


class Checker:
    """Feed it every event in order; it raises `LedgerCorrupt` at the first that does not hold."""

    def __init__(self) -> None:
        self.position = 0
        self.hash = GENESIS

    def check(self, event: Sealing, stored: bytes) -> None:
        expected = self.position + 1
        if event.position != expected:
            raise LedgerCorrupt(
                expected, f"event {expected} is missing: {event.position} follows {self.position}"
            )
        computed = link(self.hash, event)
        if computed != stored:
            raise LedgerCorrupt(expected, f"event {expected} ({event.type}) does not match its hash")
        if event.type in BODIES:
            _check_readable(event)
        self.position, self.hash = expected, stored


def _check_readable(event: Sealing) -> None:
    """The stored text must read as its type."""
    try:
        decode_body(event.type, bytes(event.data))
    except UNREADABLE as error:
        raise _unreadable(event.position, error) from error


async def verify(connection: Any, witness: Witness | None = None) -> Verified:
    """Verify a whole ledger, in one snapshot, and against a witness if there is one.

    Raises `LedgerCorrupt` with the first bad position.
    """
    checker = Checker()
    with translated():
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            head = await connection.fetchrow(_SQL.head)
            strays = await connection.fetchrow(_SQL.strays)
            if strays["before"] is not None:
                raise LedgerCorrupt(
                    strays["before"], f"event {strays['before']} lies before the beginning of the ledger"
                )
            reading = _Reading(connection)
            while records := await reading.after(checker.position):
                if witness is not None:
                    await witness.load(records[0]["position"], records[-1]["position"])
                for record in records:
                    checker.check(_readable(record), record["hash"])
                    if witness is not None:
                        witness.check(record["position"], record["hash"])
    if checker.position != head["position"] or checker.hash != head["hash"]:
        first = checker.position + 1
        raise LedgerCorrupt(
            first,
            f"event {first} is missing: the events end at {checker.position}, the head at {head['position']}",
        )
    if strays["beyond"] is not None:
        raise LedgerCorrupt(
            strays["beyond"],
            f"event {strays['beyond']} lies beyond the end of the ledger, which is at {head['position']}",
        )
    if witness is not None:
        witness.end(checker.position)
    return Verified(checker.position, checker.hash)


class _Reading:
    """Page after page; one event at a time from where a page has one that the driver makes nothing of."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._limit = PAGE

    async def after(self, position: int) -> list[Any]:
        try:
            records: list[Any] = await self._connection.fetch(_SQL.read_after, position, END, self._limit)
        except OverflowError as error:  # a time that does not exist, in the zone of this machine
            if self._limit == 1:
                raise _unreadable(position + 1, error) from error
            self._limit = 1
            return await self.after(position)
        return records


def _readable(record: Any) -> Sealing:
    try:
        return sealing_of(record)
    except (ValueError, AttributeError, OverflowError) as error:
        raise _unreadable(record["position"], error) from error


def _unreadable(position: int, error: Exception) -> LedgerCorrupt:
    return LedgerCorrupt(position, f"event {position} cannot be read: {error}")

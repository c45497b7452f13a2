"""Rebuilding read models: fold the whole ledger into a shadow, compare it row by row, swap it in.

The shadow is a temporary table of the same name, so the very statements that write the live rows write it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import asyncpg
import msgspec

from projections import store
from projections.catalogue import FOLDS
from projections.rows import Key, Rows
from service.domain.events import BODIES, Event
from service.errors import Invalid
from service.ledger import read
from service.ledger.chain import events_from
from service.ledger.database import translated
from service.tasks import dropped
from sql import queries

_SQL = queries("folds")
_LEDGER = queries("ledger")

#: Rows kept in memory while folding; more are written out between pages.
ROWS_KEPT = 50_000
#: So many changed rows are written at a time: one that is soon changed again is not written for each change.
ROWS_AT_ONCE = 5_000
DIFFERENCES_SHOWN = 20
#: Said after about so many events.
_SAID = 50_000


class Difference(NamedTuple):
    """One row that is not the same, and the last event that touched it; None where there is none."""

    key: str
    live: str | None
    rebuilt: str | None
    live_position: int | None
    rebuilt_position: int | None


class Comparison(NamedTuple):
    fold: str
    rows: int
    position: int
    differences: tuple[Difference, ...]


def known(names: list[str]) -> list[str]:
    """The folds named, or all of them when none is."""
    for name in names:
        if name not in FOLDS:
            raise Invalid("projection", name, f"the projections are {', '.join(FOLDS)}")
    return names or list(FOLDS)


async def verify(
    connection: asyncpg.Connection, names: list[str], say: Callable[[str], None]
) -> list[Comparison]:
    """Fold the ledger again and compare; the live rows stay as they are."""
    return await _rebuilt(connection, known(names), say, swap=False)


async def rebuild(
    connection: asyncpg.Connection, names: list[str], say: Callable[[str], None]
) -> list[Comparison]:
    """Fold the ledger again, compare, and put the new rows in place of the live ones, all at one moment."""
    return await _rebuilt(connection, known(names), say, swap=True)


async def _rebuilt(
    connection: asyncpg.Connection, names: list[str], say: Callable[[str], None], *, swap: bool
) -> list[Comparison]:
    with translated():
        await connection.execute(_SQL.drop_shadow)
        await connection.execute(_SQL.make_shadow)
        try:
            shadow = _Shadow(connection, names, say)
            await shadow.fold()
            # The last stretch is folded with the head locked, so that live and shadow end at one position.
            async with connection.transaction():
                await connection.fetchrow(_LEDGER.lock_head)
                await shadow.fold()
                await connection.execute(_SQL.count_shadow)
                found = [await _compared(connection, name, shadow.position) for name in names]
                if swap:
                    for name in names:
                        await connection.execute(_SQL.drop_strays, name)
                        await connection.execute(_SQL.swap_in, name)
                    await connection.execute(_SQL.count_rebuild)  # writers forget the rows they had
            return found
        finally:
            # In a transaction of the caller's that has failed nothing can be dropped, nor has to be: told is
            # the error that is on its way.
            with suppress(asyncpg.PostgresError):
                if not connection.is_closed():
                    await connection.execute(_SQL.drop_shadow)


class _Shadow:
    """The rows that the events make, in the temporary table; `position` is how far they were folded.

    Postgres looks for the next events while those that came are folded. A connection does one thing at a
    time, so whatever else is asked of it waits for them.
    """

    def __init__(self, connection: Any, names: list[str], say: Callable[[str], None]) -> None:
        self.position = 0
        self._connection = connection
        self._say = say
        self._rows = Rows(names)
        concerned = [FOLDS[name].concerned for name in names]
        #: Events that none of the folds reads. A type that is not known here is no such: to skip it would be
        #: to fold what a newer program wrote, and to leave out a part.
        self._others = [name for name, body in BODIES.items() if not _concerned(body, concerned)]

    async def fold(self) -> None:
        """Fold everything that the ledger has by now after `position`."""
        end: int = await self._connection.fetchval(_LEDGER.head_position)
        records = await self._read(self.position, end)
        while records:
            last = records[-1]["position"]
            coming = asyncio.create_task(self._read(last, end))
            try:
                await asyncio.sleep(0)  # it is asked for, before all that follows
                missing = self._fold_at_hand(events_from(records))
                await asyncio.wait([coming])
                await self._postponed(missing)
                if self._rows.changed >= ROWS_AT_ONCE:
                    await self._save()
                records = await coming
            finally:
                await dropped(coming)
            if last // _SAID > self.position // _SAID:
                self._say(f"folded {last} events")
            self.position = last
        await self._save()
        self.position = end

    async def _read(self, after: int, end: int) -> list[Any]:
        found: list[Any] = await self._connection.fetch(
            _LEDGER.read_others, after, end, read.PAGE, self._others
        )
        return found

    def _fold_at_hand(self, events: list[Event]) -> list[tuple[Event, list[Key]]]:
        """Fold what concerns rows that are in memory; the events that concern others, and those."""
        fold = self._rows.fold_at_hand
        return [(event, missing) for event in events if (missing := fold(event))]

    async def _postponed(self, events: list[tuple[Event, list[Key]]]) -> None:
        if not events:
            return
        await store.load(self._connection, self._rows, [key for _, keys in events for key in keys])
        for event, keys in events:
            self._rows.fold(event, keys)

    async def _save(self) -> None:
        await store.save(self._connection, self._rows.take_changed())
        self._rows.trim(ROWS_KEPT)


def _concerned(body: type, concerned: list[Any]) -> bool:
    return any(issubclass(body, each) for each in concerned)


async def _compared(connection: Any, name: str, position: int) -> Comparison:
    count = await connection.fetchval(_SQL.count_rows, name)
    differences: list[Difference] = []
    async for record in connection.cursor(_SQL.differences, name, prefetch=1000):
        difference = Difference(**record)
        if not _only_written_otherwise(name, difference):
            differences.append(difference)
        if len(differences) == DIFFERENCES_SHOWN:
            break
    return Comparison(name, count, position, tuple(differences))


def _only_written_otherwise(name: str, found: Difference) -> bool:
    """Whether both rows say the same: the live one with the defaults that are left out since, or with more
    than is kept since, which nothing reads any more (`Fold.read_as`)."""
    if found.live is None or found.rebuilt is None or found.live_position != found.rebuilt_position:
        return False
    fold = FOLDS[name]
    known = {each.encode_name for each in msgspec.structs.fields(fold.row)}
    live, rebuilt = msgspec.json.decode(found.live).keys(), msgspec.json.decode(found.rebuilt).keys()
    if not rebuilt <= live <= known:
        return False
    try:
        return bool(fold.read_as(fold.decoder.decode(found.live)) == fold.decoder.decode(found.rebuilt))
    except msgspec.MsgspecError:
        return False

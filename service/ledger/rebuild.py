"""Rebuilding read models: fold the whole ledger into a shadow, compare it row by row, swap it in.

The shadow is a temporary table of the same name, so the very statements that write the live rows write it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import asyncpg
import msgspec

from projections import store
from projections.catalogue import FOLDS
from projections.rows import Key, Rows
from service.domain.events import Event
from service.errors import Invalid
from service.ledger import read
from service.ledger.database import translated
from sql import queries

_SQL = queries("folds")
_LEDGER = queries("ledger")

#: Rows kept in memory while folding; more are written out between pages.
ROWS_KEPT = 50_000
#: So many changed rows are written at a time: one that is soon changed again is not written for each change.
ROWS_AT_ONCE = 5_000
DIFFERENCES_SHOWN = 20


class Difference(NamedTuple):
    """One row that is not the same; None where it is missing."""

    key: str
    live: str | None
    rebuilt: str | None


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
            rows = Rows(names)
            position = await _fold(connection, rows, 0, say)
            # The last stretch is folded with the head locked, so that live and shadow end at one position.
            async with connection.transaction():
                await connection.fetchrow(_LEDGER.lock_head)
                position = await _fold(connection, rows, position, say)
                found = [await _compared(connection, name, position) for name in names]
                if swap:
                    for name in names:
                        await connection.execute(_SQL.clear_live, name)
                        await connection.execute(_SQL.swap_in, name)
                    await connection.execute(_SQL.count_rebuild)  # writers forget the rows they had
            return found
        finally:
            if not connection.is_closed():
                await connection.execute(_SQL.drop_shadow)


async def _fold(connection: Any, rows: Rows, after: int, say: Callable[[str], None]) -> int:
    """Fold everything after a position into the shadow; the position reached."""
    async for events in read.through(connection, after):
        postponed: list[tuple[Event, list[Key]]] = []
        for event in events:
            rows.begin(event)
            if missing := rows.fold_at_hand(event):
                postponed.append((event, missing))
        if postponed:
            await store.load(connection, rows, [key for _, keys in postponed for key in keys])
            for event, keys in postponed:
                rows.fold(event, keys)
        if rows.changed >= ROWS_AT_ONCE:
            await _save(connection, rows)
        after = events[-1].position
        if after % 50_000 < len(events):
            say(f"folded {after} events")
    await _save(connection, rows)
    return after


async def _save(connection: Any, rows: Rows) -> None:
    await store.save(connection, rows.take_changed())
    rows.trim(ROWS_KEPT)


async def _compared(connection: Any, name: str, position: int) -> Comparison:
    count = await connection.fetchval(_SQL.count_rows, name)
    differences: list[Difference] = []
    async for record in connection.cursor(_SQL.differences, name, prefetch=1000):
        difference = Difference(record["key"], record["live"], record["rebuilt"])
        if not _only_written_otherwise(name, difference):
            differences.append(difference)
        if len(differences) == DIFFERENCES_SHOWN:
            break
    return Comparison(name, count, position, tuple(differences))


def _only_written_otherwise(name: str, found: Difference) -> bool:
    """Whether both rows say the same: the live one with the defaults that are left out since, or with more
    than is kept since, which nothing reads any more (`Fold.read_as`)."""
    if found.live is None or found.rebuilt is None:
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

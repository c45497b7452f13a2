"""Rows of any fold in Postgres: load them, write them back, and the shadow copy of a rebuild."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from projections.rows import Changed, Key, Rows
from sql import queries

_SQL = queries("folds")


async def load(connection: Any, rows: Rows, keys: Sequence[Key]) -> None:
    """Bring the rows of `keys` into `rows`, in one query; those the database lacks become None."""
    missing = rows.missing(keys)
    if not missing:
        return
    found = await connection.fetch(_SQL.load, [fold for fold, _ in missing], [key for _, key in missing])
    put(rows, missing, found)


def put(rows: Rows, missing: Sequence[Key], found: Sequence[Any]) -> None:
    """What was found of rows that were missing; the others of them there are not."""
    for fold, key in missing:
        rows.put(fold, key, None)
    for record in found:
        rows.put(record["fold"], record["key"], record["row"])


async def save(connection: Any, changed: Sequence[Changed]) -> None:
    """Write rows, in one statement."""
    if changed:
        await connection.execute(_SQL.save, *columns(changed))


def columns(changed: Sequence[Changed]) -> tuple[list[str], list[str], list[int], list[str]]:
    """Rows as the parallel arrays that `unnest` takes."""
    return (
        [row.fold for row in changed],
        [row.key for row in changed],
        [row.position for row in changed],
        [row.row for row in changed],
    )

"""Databases of every former schema, with what a program of that time wrote into them.

`NNNN.sql` is what lay in a database at migration NNNN, written by `fill` with the code of that day. Of the
migrations 8 to 12 there is none: they came to the main line together, so no program of it ever had them as
its newest; a database passes through them on its way from 7.
"""

from __future__ import annotations

from pathlib import Path

import asyncpg

from sql import Migration, migrations, queries

_SQL = queries("migrate")
_ROOT = Path(__file__).parent

#: The schemas that programs have written at, oldest first.
FILLED = sorted(int(path.stem) for path in _ROOT.glob("*.sql"))
#: Schemas that no program ever wrote at.
PASSED = (8, 9, 10, 11, 12)
EVENTS = 52


async def made(url: str, version: int) -> None:
    """Make an empty database one of this version: filled by a program of then, and migrated up to it."""
    filled = max(each for each in FILLED if each <= version)
    connection = await asyncpg.connect(url, server_settings={"search_path": "jobyard"})
    try:
        await connection.execute(_SQL.prepare)
        await _apply(connection, [each for each in migrations() if each.version <= filled])
        await connection.execute("DELETE FROM ledger_head")  # the first migration makes one of its own
        await connection.execute((_ROOT / f"{filled:04}.sql").read_text())
        await _apply(connection, [each for each in migrations() if filled < each.version <= version])
    finally:
        await connection.close()


async def _apply(connection: asyncpg.Connection, some: list[Migration]) -> None:
    for each in some:
        async with connection.transaction():
            await connection.execute(each.text)
            await connection.execute(_SQL.record, each.version, each.name, each.sha256)


async def applied(connection: asyncpg.Connection) -> list[int]:
    return [row["version"] for row in await connection.fetch(_SQL.applied)]

"""Whether Postgres has disk space, asked of it without writing anything that lasts."""

from __future__ import annotations

import asyncpg

from service.ledger.database import translated
from sql import queries

_SQL = queries("space")


async def has_space(pool: asyncpg.Pool) -> bool:
    """Whether some hundred KiB can be written where its data lie. Raises `Unavailable`.

    What a query has no memory for goes to a temporary file there: no row, no WAL (a disk that is too full for
    that would bring the server down), and it is gone with the transaction.
    """
    with translated():
        async with pool.acquire() as connection, connection.transaction(readonly=True):
            await connection.fetchval(_SQL.little_memory)
            try:
                await connection.fetchval(_SQL.spill)
            except asyncpg.DiskFullError:
                return False
    return True

"""What someone with the superuser's password might do to a ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from service.ledger import database
from service.ledger.chain import link, sealing_of


async def by_force(connection: asyncpg.Connection, *statements: str) -> None:
    """Change the tables with every trigger off."""
    await connection.execute("SET session_replication_role = replica")
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.execute("SET session_replication_role = origin")


async def keep(url: str) -> None:
    """Keep a copy of the events and of their head, for `put_back_afterwards`."""
    connection = await database.connect(url, admin=True)
    await connection.execute("CREATE TABLE kept_events AS TABLE events")
    await connection.execute("CREATE TABLE kept_head AS TABLE ledger_head")
    await connection.close()


@asynccontextmanager
async def put_back_afterwards(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection that may do anything to the events; what it did is undone."""
    connection = await database.connect(url, admin=True)
    yield connection
    await by_force(
        connection,
        "DELETE FROM events",
        "INSERT INTO events TABLE kept_events",
        "DELETE FROM ledger_head",
        "INSERT INTO ledger_head TABLE kept_head",
    )
    await connection.close()


async def recompute(connection: asyncpg.Connection, since: int, *, head: bool) -> None:
    """Make the chain hold again from a position on; with `head`, the head too."""
    previous = await connection.fetchval("SELECT hash FROM events WHERE position = $1", since - 1)
    last: Any = previous or bytes(32)
    records = await connection.fetch("SELECT * FROM events WHERE position >= $1 ORDER BY position", since)
    await connection.execute("SET session_replication_role = replica")
    for record in records:
        last = link(last, sealing_of(record))
        await connection.execute("UPDATE events SET hash = $1 WHERE position = $2", last, record["position"])
    await connection.execute("SET session_replication_role = origin")
    if head:
        await connection.execute("UPDATE ledger_head SET hash = $1", last)

"""A failover to a standby that was behind, in one database: what came after a moment is gone from it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from service.ledger import database
from tests.ledger.tampering import by_force

_TABLES = ("events", "commands", "folds", "ledger_head")


@asynccontextmanager
async def standby(url: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """What the context yields makes the database what it was when the context was entered."""
    admin = await database.connect(url, admin=True)
    try:
        for table in _TABLES:
            await admin.execute(f"CREATE TABLE kept_{table} AS TABLE {table}")

        async def fail_over() -> None:
            async with admin.transaction():
                for table in _TABLES:
                    copied = f"INSERT INTO {table} SELECT * FROM kept_{table}"
                    await by_force(admin, f"DELETE FROM {table}", copied)

        yield fail_over
    finally:
        for table in _TABLES:
            await admin.execute(f"DROP TABLE IF EXISTS kept_{table}")
        await admin.close()

"""Migrations: forward only, each in a transaction of its own, under a lock, never changed once applied."""

from __future__ import annotations

from typing import Any

import asyncpg
import structlog

from service.errors import Misconfigured
from service.ledger import rebuild
from service.ledger.database import close, connect, translated
from sql import migrations, queries

_SQL = queries("migrate")
_log = structlog.get_logger()


async def migrate(url: str) -> list[int]:
    """Bring the schema at `url` up to date, and the read models of a ledger that has events with it; the
    versions applied now. Safe to run at once from many places.

    Raises `Misconfigured` when the database has a migration that this version does not know, or one
    whose text was changed.
    """
    connection = await connect(url, admin=True, patient=True)
    applied: list[int] = []
    try:
        with translated():
            async with connection.transaction():
                await _lock(connection)
                await connection.execute(_SQL.prepare)
            for migration in migrations():
                async with connection.transaction():
                    await _lock(connection)
                    known = {row["version"]: row for row in await connection.fetch(_SQL.applied)}
                    newest = migrations()[-1].version
                    if known and max(known) > newest:
                        raise Misconfigured(
                            f"the database is at schema {max(known)}; this version knows {newest}: upgrade it"
                        )
                    if migration.version in known:
                        if known[migration.version]["sha256"] != migration.sha256:
                            raise Misconfigured(
                                f"migration {migration.version} was changed after it had been applied"
                            )
                        continue
                    await connection.execute(migration.text)
                    await connection.execute(_SQL.record, migration.version, migration.name, migration.sha256)
                    if migration.version == newest and await connection.fetchval(_SQL.has_events):
                        # This version may make more of the same events. In this transaction, so that no
                        # crash leaves a new schema with old rows.
                        await rebuild.rebuild(connection, [], _said)
                    applied.append(migration.version)
    finally:
        await close(connection)
    if applied:
        _log.info("migrated", versions=applied)
    return applied


async def _lock(connection: asyncpg.Connection) -> None:
    """Until the transaction ends nobody else migrates. Who does so now may take long."""
    if not await connection.fetchval(_SQL.try_lock):
        _log.info("another process migrates this database: waiting until it is done")
        await connection.execute(_SQL.lock)


def _said(text: str) -> None:
    _log.info("rebuilding the read models", said=text)


async def is_current(source: Any) -> bool:
    """Whether the schema has exactly the migrations of this version. Only reads."""
    try:
        with translated():
            records = await source.fetch(_SQL.applied)
    except asyncpg.UndefinedTableError:
        return False
    applied = [(record["version"], record["sha256"]) for record in records]
    return applied == [(migration.version, migration.sha256) for migration in migrations()]

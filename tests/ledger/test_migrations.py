"""Migrations: once each, whoever runs them and however many at a time; never backwards, never changed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest

import sql
from service.errors import Misconfigured, Unavailable
from service.ledger import database, migrate, rebuild
from sql import Migration, migrations
from tests.support import databases
from tests.support.proxy import proxied
from tests.support.waiting import until
from tests.support.yard import Yard

VERSIONS = [migration.version for migration in migrations()]


@pytest.fixture
async def empty() -> AsyncIterator[str]:
    async with databases.a_database() as url:
        yield url


async def test_once_and_then_never_again(empty: str) -> None:
    assert await migrate.migrate(empty) == VERSIONS
    assert await migrate.migrate(empty) == []


async def test_versions_are_in_order_and_have_a_name() -> None:
    assert sorted(set(VERSIONS)) == VERSIONS
    assert all(migration.name and migration.text for migration in migrations())


async def test_four_at_once_apply_each_once(empty: str) -> None:
    applied = await asyncio.gather(*(migrate.migrate(empty) for _ in range(4)))
    assert sorted(version for each in applied for version in each) == VERSIONS


async def test_four_databases_of_one_server_at_once() -> None:
    """Roles belong to the server: each of them makes the same one."""

    async def one() -> list[int]:
        async with databases.a_database() as url:
            return await migrate.migrate(url)

    assert await asyncio.gather(*(one() for _ in range(4))) == [VERSIONS] * 4


async def test_who_migrates_waits_for_who_migrates(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the other takes: it may make the read models of a large ledger anew meanwhile."""
    monkeypatch.setattr(database, "ADMIN_TIMEOUT_S", 0.1)
    other = await asyncpg.connect(empty)
    async with other.transaction():
        await other.execute(sql.queries("migrate").lock)
        coming = asyncio.create_task(migrate.migrate(empty))
        await until(lambda: other.fetchval(_WAITS), what="it waits for the lock")
        done, _ = await asyncio.wait([coming], timeout=5 * database.ADMIN_TIMEOUT_S)
        assert not done
    assert await coming == VERSIONS
    await other.close()


_WAITS = (
    "SELECT EXISTS (SELECT FROM pg_locks JOIN pg_database AS own ON own.oid = database"
    " WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted)"
)


async def test_a_migration_takes_its_time(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "ADMIN_TIMEOUT_S", 0.1)
    slow = Migration(VERSIONS[-1] + 1, "slow", "SELECT pg_sleep(0.5)", "x")
    monkeypatch.setattr(migrate, "migrations", lambda: [*migrations(), slow])
    assert await migrate.migrate(database_url) == [slow.version]


async def test_no_cut_link_keeps_a_patient_connection(empty: str) -> None:
    """None of its statements has a time, so both kernels have to look whether the other end is there."""
    async with proxied(empty) as proxy:
        server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        url = f"postgresql://postgres@{host}:{port}{urlsplit(empty).path}"
        connection = await database.connect(url, admin=True, patient=True)
        link = database.link_of(connection)
        assert link.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        asked = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
        assert [link.getsockopt(socket.IPPROTO_TCP, each) for each in asked] == [5, 2, 3, 11_000]
        await connection.close()
        server.close()


async def test_a_changed_migration_is_refused(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first, *rest = migrations()
    monkeypatch.setattr(migrate, "migrations", lambda: [first._replace(sha256="0" * 64), *rest])
    with pytest.raises(Misconfigured, match="migration 1 was changed after it had been applied"):
        await migrate.migrate(database_url)


async def test_a_newer_schema_is_refused(database_url: str) -> None:
    connection = await database.connect(database_url, admin=True)
    newer = VERSIONS[-1] + 1
    await connection.execute("INSERT INTO schema_migrations VALUES ($1, 'of tomorrow', 'x')", newer)
    await connection.close()
    with pytest.raises(Misconfigured, match=f"at schema {newer}; this version knows {VERSIONS[-1]}"):
        await migrate.migrate(database_url)


async def test_one_that_fails_leaves_nothing_of_itself(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Migration(VERSIONS[-1] + 1, "broken", "CREATE TABLE half (x int); SELECT 1 / 0;", "x")
    monkeypatch.setattr(migrate, "migrations", lambda: [*migrations(), broken])
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate.migrate(database_url)
    connection = await database.connect(database_url, admin=True)
    assert await connection.fetchval("SELECT to_regclass('half')") is None
    assert await connection.fetchval("SELECT max(version) FROM schema_migrations") == VERSIONS[-1]
    await connection.close()


async def test_a_ledger_of_an_older_version_gets_its_read_models_anew(
    yard: Yard, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that the older version did not have, and rows that it made otherwise."""
    await yard.run(await yard.submit())
    connection = await database.connect(database_url, admin=True)
    before = await connection.fetch("SELECT * FROM folds ORDER BY fold, key")
    await connection.execute("DELETE FROM folds WHERE fold = 'status'")
    await connection.execute("UPDATE folds SET row = row - 'policy' WHERE fold = 'billing'")
    new = Migration(VERSIONS[-1] + 1, "new", "CREATE TABLE new_table (x int)", "x")
    monkeypatch.setattr(migrate, "migrations", lambda: [*migrations(), new])
    assert await migrate.migrate(database_url) == [new.version]
    assert await connection.fetch("SELECT * FROM folds ORDER BY fold, key") == before
    await connection.close()


async def test_a_disk_that_fills_meanwhile_is_told(
    yard: Yard, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not what comes of it: the transaction takes no more statements then. Afterwards it is done again."""

    async def full(shadow: rebuild._Shadow) -> None:
        await shadow._connection.execute(
            "DO $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$"
        )

    await yard.run(await yard.submit())
    new = Migration(VERSIONS[-1] + 1, "new", "CREATE TABLE new_table (x int)", "x")
    monkeypatch.setattr(migrate, "migrations", lambda: [*migrations(), new])
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(rebuild._Shadow, "fold", full)
        with pytest.raises(Unavailable, match="Postgres has no disk space left"):
            await migrate.migrate(database_url)
    assert await migrate.migrate(database_url) == [new.version]


def test_a_statement_that_is_not_there_is_named() -> None:
    with pytest.raises(AttributeError, match=r"sql/queries/ledger\.sql has no statement 'nonsense'"):
        _ = sql.queries("ledger").nonsense


async def test_a_role_that_may_not_grant_the_services_role_is_told_what_to_ask_for(database_url: str) -> None:
    """Another deployment of the cluster made the role; this one's user is a stranger to it."""
    name = f"stranger_{uuid4().hex[:8]}"
    admin = await asyncpg.connect(database_url)
    await admin.execute(f"CREATE ROLE {name} LOGIN CREATEDB CREATEROLE")
    await admin.execute(f"CREATE DATABASE {name} OWNER {name}")
    parts = urlsplit(database_url)
    url = urlunsplit(parts._replace(netloc=f"{name}@", path=f"/{name}"))
    try:
        with pytest.raises(Misconfigured, match="GRANT jobyard_service TO"):
            await migrate.migrate(url)
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.execute(f"DROP ROLE {name}")
        await admin.close()


async def test_a_role_without_a_right_to_the_database_is_told_which_one(database_url: str) -> None:
    """The database is somebody else's: to be able to create roles is of no use then."""
    name = f"guest_{uuid4().hex[:8]}"
    admin = await asyncpg.connect(database_url)
    await admin.execute(f"CREATE ROLE {name} LOGIN")
    parts = urlsplit(database_url)
    await admin.execute(f"CREATE DATABASE {name}")
    try:
        with pytest.raises(Misconfigured, match="GRANT CREATE ON DATABASE") as told:
            await migrate.migrate(urlunsplit(parts._replace(netloc=f"{name}@", path=f"/{name}")))
        assert (f"permission denied for database {name}. " in str(told.value), ".." in str(told.value)) == (
            True,
            False,
        )
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.execute(f"DROP ROLE {name}")
        await admin.close()

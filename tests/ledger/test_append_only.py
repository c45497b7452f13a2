"""The ledger only grows: triggers refuse everyone, and the service's role may not even ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from projections.catalogue import FOLDS
from service.errors import Misconfigured
from service.ledger import database
from service.ledger.ledger import Ledger
from service.vault import MasterKey
from tests.support import databases
from tests.support.yard import Yard

CHANGES = [
    "UPDATE events SET actor = 'x'",
    "UPDATE events SET actor = 'x' WHERE position = 0",
    "DELETE FROM events",
    "DELETE FROM events WHERE false",
    "TRUNCATE events",
    "UPDATE commands SET digest = NULL",
    "DELETE FROM commands",
    "TRUNCATE commands",
    "UPDATE checkpoints SET note = ''",
    "DELETE FROM checkpoints",
    "TRUNCATE checkpoints",
    "TRUNCATE events, commands CASCADE",
    "INSERT INTO commands SELECT id, digest, 1, 1 FROM commands"
    " ON CONFLICT (id) DO UPDATE SET first_position = 0",
]


@pytest.fixture(scope="module")
def grown(template_database: str) -> Iterator[str]:
    """A database with two events. All that is tried on it is refused, so that the tests share it."""
    name = f"{template_database}_grown"
    asyncio.run(_grow(asyncio.run(databases.make(name, template_database))))
    yield databases.url_of(name)
    asyncio.run(databases.drop(name))


async def _grow(url: str) -> None:
    async with Ledger.open(url, MasterKey(b"m" * 32)) as ledger:
        await Yard(ledger).open()


@pytest.fixture
async def admin(grown: str) -> AsyncIterator[asyncpg.Connection]:
    """The owner of the tables, a superuser."""
    connection = await database.connect(grown, admin=True)
    yield connection
    await connection.close()


@pytest.fixture
async def service(grown: str) -> AsyncIterator[asyncpg.Connection]:
    """The role that the service works under."""
    connection = await database.connect(grown)
    yield connection
    await connection.close()


@pytest.mark.parametrize("change", CHANGES)
async def test_triggers_refuse_even_the_owner(admin: asyncpg.Connection, change: str) -> None:
    before = await admin.fetch("SELECT * FROM events ORDER BY position")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="the ledger only grows"):
        await admin.execute(change)
    assert await admin.fetch("SELECT * FROM events ORDER BY position") == before


@pytest.mark.parametrize(
    "change",
    [
        *CHANGES,
        "ALTER TABLE events DISABLE TRIGGER ALL",
        "ALTER TABLE events DISABLE TRIGGER events_only_grow",
        "DROP TRIGGER events_only_grow ON events",
        "DROP TABLE events",
        "ALTER TABLE events ADD COLUMN x int",
        "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE sql AS 'SELECT 1'",
        "DROP FUNCTION refuse_change() CASCADE",
        "CREATE TABLE jobyard.mine (x int)",
        "DELETE FROM ledger_head",
        "INSERT INTO ledger_head DEFAULT VALUES",
        "TRUNCATE ledger_head",
        "DELETE FROM leases",
        "UPDATE project_keys SET box = ''",
        "UPDATE job_keys SET box = ''",
        "INSERT INTO schema_migrations VALUES (99, 'x', 'x')",
        "DELETE FROM schema_migrations",
        "UPDATE fold_quota SET row = '{}'",
    ],
)
async def test_the_service_may_not(service: asyncpg.Connection, change: str) -> None:
    assert await service.fetchval("SELECT current_user") == "jobyard_service"
    refusals = (
        asyncpg.InsufficientPrivilegeError,
        asyncpg.InvalidFunctionDefinitionError,
        asyncpg.WrongObjectTypeError,
    )
    with pytest.raises(refusals):
        await service.execute(change)


@pytest.mark.parametrize("change", ["SET session_replication_role = replica", "SET ROLE pg_write_all_data"])
async def test_the_role_by_itself_has_no_way_around(service: asyncpg.Connection, change: str) -> None:
    """As where the service logs in with a role that has nothing else."""
    owner = await service.fetchval("SELECT session_user")
    name = f"jobyard_login_{(await service.fetchval('SELECT pg_backend_pid()'))}"
    await service.execute("SET ROLE NONE")
    await service.execute(f"CREATE ROLE {name} IN ROLE jobyard_service")
    try:
        await service.execute(f"SET SESSION AUTHORIZATION {name}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await service.execute(change)
    finally:
        await service.execute(f"SET SESSION AUTHORIZATION {owner}")
        await service.execute(f"DROP ROLE {name}")


async def test_what_the_service_may(service: asyncpg.Connection) -> None:
    """A new table or right must come here knowingly."""
    await service.execute("GRANT UPDATE ON events TO jobyard_service")  # warns and does nothing
    records = await service.fetch(
        "SELECT table_name, string_agg(privilege_type, ' ' ORDER BY privilege_type) AS may"
        " FROM information_schema.role_table_grants"
        " WHERE grantee = 'jobyard_service' AND table_schema = 'jobyard' GROUP BY 1"
    )
    reads = dict.fromkeys(FOLDS, "SELECT")
    assert {record["table_name"]: record["may"] for record in records} == {
        "checkpoints": "INSERT SELECT",
        "commands": "INSERT SELECT",
        "events": "INSERT SELECT",
        "folds": "DELETE INSERT SELECT UPDATE",
        "leases": "INSERT SELECT UPDATE",
        "job_keys": "DELETE INSERT SELECT",
        "ledger_head": "SELECT UPDATE",
        "project_keys": "DELETE INSERT SELECT",
        "schema_migrations": "SELECT",
        **dict.fromkeys(
            ("webhook_attempts", "webhook_cursors", "webhook_lines"), "DELETE INSERT SELECT UPDATE"
        ),
        **{f"fold_{name}": may for name, may in reads.items()},
    }


async def test_the_service_has_done_its_work(service: asyncpg.Connection) -> None:
    assert await service.fetchval("SELECT count(*) FROM events") == 2
    assert await service.fetchval("SELECT count(*) FROM schema_migrations") >= 1


async def test_a_database_without_the_role_says_what_to_do(
    grown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "SERVICE_ROLE", "jobyard_nobody")
    with pytest.raises(Misconfigured, match=r"`jobyard up` makes it when it starts.*JOBYARD_MIGRATION_URL"):
        await database.connect(grown)


async def test_a_database_that_is_not_there_is_named() -> None:
    with pytest.raises(Misconfigured, match="Postgres refused the connection"):
        await database.connect(databases.url_of("jobyard_nowhere"))

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from service.ledger.ledger import Ledger
from service.ledger.migrate import migrate
from service.supervisor.data import StoreAccess
from tests.api.yard import (
    ADMIN,
    MASTER,
    OPERATOR,
    READER,
    Supervision,
    Yard,
    copy_of,
    database_url,
    furnish,
    opened,
)
from tests.data.server import the_store


@pytest.fixture(scope="session")
def server() -> str:
    """A Postgres where the tests may make databases."""
    return os.environ["JOBYARD_TEST_DATABASE_URL"]


@pytest.fixture(scope="session")
def template(server: str) -> Iterator[str]:
    """A migrated database with two projects and prices, of which each test gets a copy."""
    name = f"api_template_{uuid4().hex[:12]}"

    async def make() -> None:
        await _on(server, f'CREATE DATABASE "{name}"')
        url = database_url(server, name)
        await migrate(url)
        async with Ledger.open(url, MASTER) as ledger:
            await furnish(ledger)

    asyncio.run(make())
    yield name
    asyncio.run(_on(server, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))


async def _on(server: str, statement: str) -> None:
    connection = await asyncpg.connect(server)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture
async def database(server: str, template: str) -> AsyncIterator[str]:
    async with copy_of(server, template) as url:
        yield url


@pytest.fixture
async def yard(database: str, tmp_path: Path) -> AsyncIterator[Yard]:
    """One API process, with a token of each role in `default` and an administrator's in `other`."""
    async with opened(database, tmp_path, {}) as made:
        for role in (ADMIN, OPERATOR, READER):
            await made.token(role, role)
        await made.token("other", ADMIN, project="other")
        yield made


@pytest.fixture
async def supervision(yard: Yard) -> Supervision:
    made = Supervision(yard)
    await made.lease()
    return made


@pytest.fixture(scope="session")
def access() -> Iterator[StoreAccess]:
    with the_store() as found:
        yield found

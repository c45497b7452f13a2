from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from service.supervisor.data import StoreAccess
from service.supervisor.engine.docker import DockerEngine
from tests.api.yard import ADMIN, OPERATOR, READER, Supervision, Yard, emptied, furnish, opened
from tests.data.server import the_store
from tests.images import make_network, remove_network
from tests.supervisor.lab import Lab
from tests.support import databases
from tests.support.waiting import until_no_months_end


@pytest.fixture(scope="session")
def session_database(template_database: str) -> Iterator[str]:
    """The URL of a migrated database for this folder's tests, one after the other."""
    name = f"{template_database}_api"
    yield asyncio.run(databases.make(name, template_database))
    asyncio.run(databases.drop(name))


@pytest.fixture
def database(session_database: str) -> str:
    """The URL of a database whose ledger is new."""
    asyncio.run(emptied(session_database))
    return session_database


@pytest.fixture
async def yard(database: str, tmp_path: Path) -> AsyncIterator[Yard]:
    """One API process, two projects, a token of each role in `default`, an administrator's in `other`; and a
    month that lasts until the test is over."""
    await until_no_months_end()
    async with opened(database, tmp_path, {}) as made:
        await furnish(made.ledger)
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
def access(parts: None) -> Iterator[StoreAccess]:
    with the_store() as found:
        yield found


@pytest.fixture
async def lab(yard: Yard, parts: None) -> AsyncIterator[Lab]:
    network = f"jobyard-test-web-{yard.url.rpartition(':')[2]}"
    make_network(network)
    made = Lab(DockerEngine(), network)
    yield made
    await made.close()
    remove_network(network)

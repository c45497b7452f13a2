from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from service.supervisor.engine.docker import DockerEngine
from service.supervisor.engine.exec import Execs
from service.supervisor.inside.containers import Inside
from tests.api.yard import OPERATOR, Supervision, Yard, emptied, furnish, opened
from tests.images import import_busybox, make_network, remove_network
from tests.ssh.client import Client, Key
from tests.ssh.house import House, serving
from tests.supervisor.lab import RUNS_ON, Lab
from tests.support import databases


@pytest.fixture(scope="session")
def session_database(template_database: str) -> Iterator[str]:
    """The URL of a migrated database for this folder's tests, one after the other."""
    name = f"{template_database}_ssh"
    yield asyncio.run(databases.make(name, template_database))
    asyncio.run(databases.drop(name))


@pytest.fixture
async def yard(session_database: str, tmp_path: Path) -> AsyncIterator[Yard]:
    """An API on a new ledger, by which jobs are submitted."""
    await emptied(session_database)
    async with opened(session_database, tmp_path, {}) as made:
        await furnish(made.ledger)
        await made.token(OPERATOR, OPERATOR)
        yield made


@pytest.fixture(scope="session")
def network(parts: None) -> Iterator[str]:
    import_busybox()
    name = f"jobyard-test-ssh-{uuid4().hex[:12]}"
    make_network(name)
    yield name
    remove_network(name)


@pytest.fixture
async def lab(network: str) -> AsyncIterator[Lab]:
    made = Lab(DockerEngine(), network)
    yield made
    await made.close()


@pytest.fixture
def key(tmp_path: Path) -> Key:
    return Key.made(tmp_path / "ada")


@pytest.fixture
async def house(yard: Yard, lab: Lab, key: Key, tmp_path: Path) -> AsyncIterator[House]:
    """A gateway, and one RUNNING job that `key` leads to."""
    supervision = Supervision(yard)
    await supervision.lease()
    execs, inside = Execs(), Inside()
    async with serving(yard.ledger, execs, inside, tmp_path / "host_key") as (gateway, port):
        container = await lab.started(RUNS_ON, pids_limit=256)
        job = await yard.submit(sshPublicKeys=[key.public])
        await supervision.running(job["id"], container=container)
        client = Client(port, job["id"], key, tmp_path, gateway.parts.host_key)
        yield House(yard, lab, supervision, gateway, client, job["id"], container)
    await execs.close()
    await inside.close()

"""Engines to test against: a real Docker Engine (DOCKER_HOST) and the fake."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from service.supervisor.data import StoreAccess
from service.supervisor.engine.docker import DockerEngine
from service.supervisor.engine.protocol import Engine
from tests.data.server import the_store
from tests.images import BUSYBOX, import_busybox, make_network, remove_network
from tests.supervisor.bucket import Bucket, a_bucket
from tests.supervisor.door import Door
from tests.supervisor.lab import Lab
from tests.supervisor.world import World, fake_engine, world
from tests.support.engine.fake import FakeEngine
from tests.support.registry import PrivateRegistry, the_registry


@pytest.fixture(scope="session")
def busybox() -> str:
    return import_busybox()


@pytest.fixture(scope="session")
def network() -> Iterator[str]:
    """A bridge of this test session's own."""
    made = make_network(f"jobyard-test-{os.getpid()}")
    yield made
    remove_network(made)


@pytest.fixture
async def docker(busybox: str) -> AsyncIterator[DockerEngine]:
    engine = DockerEngine()
    yield engine
    await engine.close()


@pytest.fixture
async def lab(docker: DockerEngine, network: str) -> AsyncIterator[Lab]:
    """Containers on the real engine."""
    lab = Lab(docker, network)
    yield lab
    await lab.clean()


@pytest.fixture(params=["docker", "fake"])
async def either(request: pytest.FixtureRequest, busybox: str, network: str) -> AsyncIterator[Lab]:
    """Containers on the real engine and, in a second round, on the fake."""
    engine: Engine = DockerEngine() if request.param == "docker" else _fake()
    lab = Lab(engine, network)
    yield lab
    await lab.close()


def _fake() -> FakeEngine:
    fake = FakeEngine(lambda: datetime.now(UTC))
    fake.add_image(BUSYBOX, from_registry=False)
    return fake


@pytest.fixture
async def on_fake(template_database: str, tmp_path: Path) -> AsyncIterator[World]:
    """A world whose engine is the fake."""
    async with world(template_database, tmp_path / "state", fake_engine()) as made:
        yield made


@pytest.fixture
async def on_docker(template_database: str, tmp_path: Path, docker: DockerEngine) -> AsyncIterator[World]:
    """A world whose engine is a real Docker Engine."""
    async with world(template_database, tmp_path / "state", docker) as made:
        yield made


@pytest.fixture(scope="session")
def access() -> Iterator[StoreAccess]:
    """A real S3 server."""
    with the_store() as found:
        yield found


@pytest.fixture
async def door(access: StoreAccess) -> AsyncIterator[Door]:
    """The store, behind a door that a test can shut."""
    async with Door(access) as made:
        yield made


@pytest.fixture
async def bucket(access: StoreAccess) -> AsyncIterator[Bucket]:
    async with a_bucket(access) as made:
        yield made


@pytest.fixture
async def stored_on_fake(template_database: str, tmp_path: Path, door: Door) -> AsyncIterator[World]:
    """A world on the fake engine, whose data store `local` is behind `door`."""
    async with world(template_database, tmp_path / "state", fake_engine(), door.access) as made:
        yield made


@pytest.fixture
async def stored_on_docker(
    template_database: str, tmp_path: Path, docker: DockerEngine, access: StoreAccess
) -> AsyncIterator[World]:
    """A world on a real Docker Engine and with a real data store."""
    async with world(template_database, tmp_path / "state", docker, access) as made:
        yield made


@pytest.fixture(params=["fake", "docker"])
async def anywhere(
    request: pytest.FixtureRequest, template_database: str, tmp_path: Path, busybox: str
) -> AsyncIterator[World]:
    """A world on the fake and, in a second round, on a real Docker Engine."""
    engine: Engine = DockerEngine() if request.param == "docker" else fake_engine()
    async with world(template_database, tmp_path / "state", engine) as made:
        yield made
    await engine.close()


@pytest.fixture
def private(parts: None) -> PrivateRegistry:
    """A real registry that asks for a password."""
    return the_registry()

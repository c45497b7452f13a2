"""Engines to test against: a real Docker Engine (DOCKER_HOST) and the fake."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from service.supervisor.containers import DockerEngine
from service.supervisor.engine import Engine
from service.supervisor.fake_engine import FakeEngine
from tests.images import BUSYBOX, import_busybox, make_network, remove_network
from tests.supervisor.lab import Lab
from tests.supervisor.world import World, database, fake_engine, world


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
    fake.add_image(BUSYBOX)
    return fake


@pytest.fixture(scope="session")
def supervised_template() -> Iterator[str]:
    """A migrated database, of which each world is a copy."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        yield runner.run(stack.enter_async_context(database()))
        runner.run(stack.aclose())


@pytest.fixture
async def on_fake(supervised_template: str, tmp_path: Path) -> AsyncIterator[World]:
    """A world whose engine is the fake."""
    async with world(supervised_template, tmp_path / "state", fake_engine()) as made:
        yield made


@pytest.fixture
async def on_docker(supervised_template: str, tmp_path: Path, docker: DockerEngine) -> AsyncIterator[World]:
    """A world whose engine is a real Docker Engine."""
    async with world(supervised_template, tmp_path / "state", docker) as made:
        yield made


@pytest.fixture(params=["fake", "docker"])
async def anywhere(
    request: pytest.FixtureRequest, supervised_template: str, tmp_path: Path, busybox: str
) -> AsyncIterator[World]:
    """A world on the fake and, in a second round, on a real Docker Engine."""
    engine: Engine = DockerEngine() if request.param == "docker" else fake_engine()
    async with world(supervised_template, tmp_path / "state", engine) as made:
        yield made
    await engine.close()

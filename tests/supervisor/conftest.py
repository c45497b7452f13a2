"""Engines to test against: a real Docker Engine (DOCKER_HOST) and the fake."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

import pytest

from service.supervisor.containers import DockerEngine
from service.supervisor.engine import Engine
from service.supervisor.fake_engine import FakeEngine
from tests.images import BUSYBOX, import_busybox, make_network, remove_network
from tests.supervisor.lab import Lab


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

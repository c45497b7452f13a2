from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from service.supervisor.data import Source, Store, StoreAccess, Timing, prepare
from tests.data.server import the_store
from tests.data.watched import Watched

QUICK = Timing(attempts=3, backoff_s=0.01)
"""Quick to retry, yet with the usual patience: test machines are busy."""


@pytest.fixture(scope="session")
def access() -> Iterator[StoreAccess]:
    with the_store() as found:
        yield found


@pytest.fixture
async def store(access: StoreAccess) -> AsyncIterator[Store]:
    async with Store.open(access, QUICK) as opened:
        yield opened


@pytest.fixture
async def watched(access: StoreAccess) -> AsyncIterator[Watched]:
    async with Watched.open(access, QUICK) as opened:
        yield opened


@pytest.fixture
async def source(store: Store) -> Source:
    """A new, empty container."""
    name = f"test-{uuid4().hex[:16]}"
    await store.ensure_container(name)
    return Source(name)


@pytest.fixture
async def volume(tmp_path: Path) -> Path:
    root = tmp_path / "volumes" / "job" / "1" / "0"
    await prepare(root)
    return root

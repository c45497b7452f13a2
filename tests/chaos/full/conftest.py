"""A world whose state lies on a small disk, beside a real engine and a real store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from service.supervisor.data import StoreAccess
from service.supervisor.engine.docker import DockerEngine
from tests.data.server import the_store
from tests.images import import_busybox
from tests.supervisor.bucket import Bucket, a_bucket
from tests.supervisor.world import World, world
from tests.support import chaos
from tests.support.mounts import MIB, small_disk

DISK_MIB = 96
#: With a dockerd of its own: for the long form alone, or for whoever names it.
LONG = "test_engine.py"
RESERVE_BYTES = 24 * MIB


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    named = any(f"full/{LONG}" in str(argument) for argument in config.invocation_params.args)
    if config.getoption(chaos.OPTION) or named:
        return
    long = [item for item in items if item.path == Path(__file__).with_name(LONG)]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


@pytest.fixture
def disk() -> Iterator[Path]:
    with small_disk(DISK_MIB) as made:
        yield made


@pytest.fixture(scope="session")
def access() -> Iterator[StoreAccess]:
    with the_store() as found:
        yield found


@pytest.fixture
async def bucket(access: StoreAccess) -> AsyncIterator[Bucket]:
    async with a_bucket(access) as made:
        yield made


@pytest.fixture
async def on_small_disk(template_database: str, disk: Path, access: StoreAccess) -> AsyncIterator[World]:
    import_busybox()
    engine = DockerEngine()
    changes = {"disk_reserve_bytes": RESERVE_BYTES, "room_look_s": 0.05, "store_attempts": 3}
    try:
        async with world(template_database, disk / "state", engine, access, **changes) as made:
            yield made
    finally:
        await engine.close()

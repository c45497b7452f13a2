"""The disk of the Docker Engine itself fills up: a dockerd of its own, whose data lies on a small disk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.domain.room import DISK_FULL
from service.domain.states import State
from service.local.docker import DockerEngine as EmbeddedDocker
from service.supervisor.engine.docker import DockerEngine
from service.supervisor.logs.keeper import BROKEN
from tests.chaos.full.conftest import RESERVE_BYTES
from tests.chaos.full.test_node import (
    FILLS_ITS_LOG,
    placed_while_full,
    runs,
    stopped,
    verified,
)
from tests.images import import_busybox
from tests.supervisor.lab import DONE
from tests.supervisor.world import World, volume, world
from tests.support.chaos import Chaos
from tests.support.mounts import MIB, Ballast, small_disk
from tests.support.waiting import until

DISK_MIB = 512


@pytest.fixture
def engine_disk() -> Iterator[Path]:
    with small_disk(DISK_MIB) as made:
        yield made


@pytest.fixture
async def on_small_engine(
    template_database: str, tmp_path: Path, engine_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    dockerd = EmbeddedDocker(engine_disk, configured=None, say=print, own=True)
    await dockerd.start()
    try:
        monkeypatch.setenv("DOCKER_HOST", dockerd.host)
        import_busybox()
        engine = DockerEngine(dockerd.host)
        changes: dict[str, Any] = {"disk_reserve_bytes": RESERVE_BYTES, "room_look_s": 0.05}
        try:
            async with world(template_database, tmp_path / "state", engine, **changes) as made:
                yield made
        finally:
            await engine.close()
    finally:
        await dockerd.stop()


async def test_an_engine_without_a_byte_left(on_small_engine: World, engine_disk: Path, chaos: Chaos) -> None:
    """What runs ends as it ended, nothing begins, and what had begun waits until there is space again."""
    world, ballast = on_small_engine, Ballast(engine_disk)
    async with world.supervised():
        first = await world.submit(runs(FILLS_ITS_LOG), volumes=[volume("/out", "RW")])
        await world.reach(first, State.RUNNING)
        await world.printed(first)
        ballast.leave(RESERVE_BYTES - MIB)
        await until(lambda: stopped(world, DISK_FULL))
        late = await world.submit(DONE)
        waits = await world.told(late, DISK_FULL)
        assert (waits.state, waits.info.arguments["place"]) == (State.QUEUED, "engine")
        ballast.leave_nothing()
        (world.volume(first) / "go").touch()
        ended = await world.end(first)
        assert (ended.state, ended.info.code, ended.exit_code) == (State.FAILED, "exit-code", 3)
        lines = (await world.log(first)).splitlines()
        # What the engine could not write it cannot hand over, and the log says so.
        assert lines[0] == "ready"
        assert lines[-1] == "20000" or f"[jobyard] {BROKEN.decode()}" in lines
        await until(lambda: gone(world))
    assert placed_while_full(await world.events()) == 0
    # One that keeps no reserve places all the same, and then the engine itself has no space.
    async with world.supervised(disk_reserve_bytes=0):
        begun = await world.submit(DONE)
        waits = await world.told(begun, DISK_FULL)
        assert waits.state in (State.INITIALIZING, State.PENDING)
        ballast.drop()
        for job in (late, begun):
            assert (await world.end(job)).state is State.DONE
    await verified(world)
    chaos.told("engine's disk full", ended_badly=0, went_on_by_itself="yes")


async def gone(world: World) -> bool:
    return await world.containers() == []

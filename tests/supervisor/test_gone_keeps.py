"""What a run has made outlives its engine: it lies in the state directory, and can be pushed from there."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest

from service.domain import commands as cmd
from service.domain.job import Job
from service.domain.states import State
from service.errors import EngineAway
from service.supervisor import container, shift
from service.supervisor.driver import KEPT
from service.supervisor.effects import Yard
from service.supervisor.names import RunId
from service.supervisor.orphans import NOT_HERE
from tests.supervisor.bucket import Bucket
from tests.supervisor.door import Door
from tests.supervisor.replaced import another_engine, submitted, swept
from tests.supervisor.world import PROJECT, World
from tests.support.waiting import until

SHORT = 0.05


@pytest.fixture(autouse=True)
def _swept_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shift, "SWEEP_S", 0.05)


async def left_running(world: World, bucket: Bucket, _: Door) -> UUID:
    return await submitted(world, bucket)


async def left_beginning(world: World, bucket: Bucket, _: Door) -> UUID:
    """Its process has begun, and nobody heard of that."""
    gate = world.fake.gates.hold("start", "after")
    job = await submitted(world, bucket, State.PENDING)
    await gate.reached.wait()
    return job


async def left_pushing(world: World, bucket: Bucket, door: Door) -> UUID:
    job = await submitted(world, bucket)
    door.hold()
    door.knocked.clear()
    await world.fake.exit(await world.name(job), 0)
    await door.knocked.wait()
    return job


async def left_pushing_what_never_was_running(world: World, bucket: Bucket, door: Door) -> UUID:
    """It was to be stopped before anybody heard that it had begun."""
    gate = world.fake.gates.hold("start", "after")
    job = await submitted(world, bucket, State.PENDING)
    await gate.reached.wait()
    await world.kill(job)
    door.hold()
    door.knocked.clear()
    gate.open.set()
    found = await world.reach(job, State.FINALIZING)
    assert (found.started_at, found.exit_code) == (None, 7)
    await door.knocked.wait()
    return job


Left = Callable[[World, Bucket, Door], Awaitable[UUID]]
MAY_HAVE_MADE_SOMETHING: list[Left] = [
    left_running,
    left_beginning,
    left_pushing,
    left_pushing_what_never_was_running,
]


@pytest.mark.parametrize("left", MAY_HAVE_MADE_SOMETHING)
async def test_what_the_run_of_an_engine_that_is_gone_has_made_is_kept(
    stored_on_fake: World, bucket: Bucket, door: Door, left: Left
) -> None:
    world = stored_on_fake
    async with world.supervised(lease_ttl_s=SHORT):
        job = await left(world, bucket, door)
    door.open()
    another_engine(world)
    async with world.supervised(lease_ttl_s=SHORT):
        ended = await world.end(job)
        assert (ended.state, ended.info.code, ended.volumes_kept) == (State.ERROR, "engine-gone", True)
        assert ended.info.message.endswith(KEPT)
        known = "Its process had ended with code" if ended.exit_code is not None else "cannot be known"
        assert known in ended.info.message
        await swept(world)
        assert (world.volume(job) / "model").read_bytes() == b"weights"
        assert (world.volume(job).parent / "kept").exists(), "whoever looks at the disk sees it"


async def test_nothing_is_kept_of_a_run_that_was_pushed_before_its_engine_was_gone(
    stored_on_fake: World, bucket: Bucket
) -> None:
    world = stored_on_fake
    async with world.supervised(lease_ttl_s=SHORT):
        job = await submitted(world, bucket)
        gate = world.fake.gates.hold("remove")
        await world.fake.exit(await world.name(job), 0)
        await gate.reached.wait()
    await _ends_with_nothing_kept(world, job)
    assert await bucket.holds() == {"model": b"weights"}


async def test_nothing_is_kept_of_a_run_whose_data_was_still_being_pulled(
    stored_on_fake: World, bucket: Bucket, door: Door
) -> None:
    world = stored_on_fake
    await bucket.put({"data": b"1"})
    async with world.supervised(lease_ttl_s=SHORT):
        door.hold()
        door.knocked.clear()
        job = await submitted(world, bucket, State.INITIALIZING)
        await door.knocked.wait()
    door.open()
    await _ends_with_nothing_kept(world, job)


async def test_nothing_is_kept_of_a_run_that_was_stopped_before_it_began(
    stored_on_fake: World, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, find = stored_on_fake, container.find

    async def away(yard: Yard, run: RunId, *how: Any) -> Any:
        job = yard.watch.jobs.get(run.job)
        if job is not None and job.state is State.FINALIZING:
            raise EngineAway("the engine does not answer")
        return await find(yard, run, *how)

    monkeypatch.setattr(container, "find", away)
    async with world.supervised(lease_ttl_s=SHORT):
        gate = world.fake.gates.hold("pull")
        job = await submitted(world, bucket, State.PENDING, image="not-there:1")
        await gate.reached.wait()
        await world.kill(job)
        await world.reach(job, State.FINALIZING)
    ended = await _ends_with_nothing_kept(world, job)
    assert "had not begun" in ended.info.message


async def test_what_is_not_on_this_node_is_kept_where_it_is(stored_on_fake: World, bucket: Bucket) -> None:
    """As when a disk was not mounted, or the service was started on another machine under the same node's
    name: the engine that comes back, with what its runs have made, removes none of that."""
    world = stored_on_fake
    first, volumes_dir = world.engine, world.settings.volumes_dir
    away = volumes_dir.with_name("away")
    async with world.supervised(lease_ttl_s=SHORT):
        job = await submitted(world, bucket)
    volumes_dir.rename(away)
    another_engine(world)
    async with world.supervised(lease_ttl_s=SHORT):
        ended = await world.end(job)
        assert (ended.state, ended.info.code, ended.volumes_kept) == (State.ERROR, "engine-gone", True)
        assert ended.info.message.endswith(NOT_HERE)
        pushed = await pushed_again(world, job, "elsewhere")
        assert (pushed.volumes_kept, pushed.data_syncs[-1].state) == (True, "FAILED")
        assert pushed.data_syncs[-1].message == "What was kept is not on node node-1."
    shutil.rmtree(volumes_dir, ignore_errors=True)
    away.rename(volumes_dir)
    world.engine = first
    async with world.supervised(lease_ttl_s=SHORT):
        await swept(world)
        assert await world.containers(job) == []
        assert (world.volume(job) / "model").read_bytes() == b"weights"
        assert not (await pushed_again(world, job, "here")).volumes_kept
        assert await bucket.holds() == {"model": b"weights"}
        await until(lambda: not world.volume(job).parent.exists(), what="the volume is removed")


async def pushed_again(world: World, job: UUID, sync_id: str) -> Job:
    await world.order(cmd.SyncData(project=PROJECT, job=job, sync_id=sync_id, direction="push"))

    def is_over(known: Job) -> bool:
        return any(sync.id == sync_id and sync.state != "RUNNING" for sync in known.data_syncs)

    return await world.when(job, lambda known, _: is_over(known), "pushed again")


async def _ends_with_nothing_kept(world: World, job: UUID) -> Job:
    another_engine(world)
    async with world.supervised(lease_ttl_s=SHORT):
        ended = await world.end(job)
        assert (ended.state, ended.info.code, ended.volumes_kept) == (State.ERROR, "engine-gone", False)
        assert KEPT not in ended.info.message
        await until(lambda: not world.volume(job).parent.exists(), what="the volume is removed")
    return ended

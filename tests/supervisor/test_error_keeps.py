"""What a run has made outlives an ERROR, which is our fault: it is kept until it is pushed."""

from __future__ import annotations

import shutil
from typing import Any
from uuid import UUID

import pytest

from service.domain import commands as cmd
from service.domain.job import Job
from service.domain.states import State
from service.errors import EngineError
from service.supervisor import container, shift
from service.supervisor.driver import FAILURES, KEPT
from service.supervisor.effects import Yard
from service.supervisor.names import RunId
from tests.supervisor.bucket import Bucket
from tests.supervisor.door import Door
from tests.supervisor.lab import RUNS_ON
from tests.supervisor.replaced import swept
from tests.supervisor.world import PROJECT, World, volume
from tests.support.waiting import until


@pytest.fixture(autouse=True)
def _swept_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shift, "SWEEP_S", 0.05)


async def test_what_a_run_that_is_lost_has_made_can_still_be_pushed(
    stored_on_fake: World, bucket: Bucket
) -> None:
    """As when its container is removed behind our back: the checkpoints on the disk are its user's."""
    world = stored_on_fake
    async with world.supervised():
        job = await world.submit(RUNS_ON, volumes=[volume("/out", "RW", bucket.name)])
        await world.reach(job, State.RUNNING)
        (world.volume(job) / "model").write_bytes(b"weights")
        await world.engine.remove((await world.container(job)).id, force=True)
        ended = await world.end(job)
        assert (ended.state, ended.info.code, ended.volumes_kept) == (State.ERROR, "container-lost", True)
        assert ended.info.message.endswith(KEPT)
        await swept(world)
        assert (world.volume(job) / "model").read_bytes() == b"weights"
        pushed = await _pushed_again(world, job)
        assert (pushed.state, pushed.volumes_kept) == (State.ERROR, False)
        assert await bucket.holds() == {"model": b"weights"}
        await until(lambda: not world.volume(job).parent.exists(), what="the volume is removed")


@pytest.mark.parametrize("removed", ["one of two", "all", "all volumes of all"])
async def test_only_what_is_there_is_said_to_be_kept(
    stored_on_fake: World, bucket: Bucket, removed: str
) -> None:
    """As when somebody removes a volume by hand while the job runs. Where nothing is there at all, the
    disk may not be mounted: what is on it is not given up."""
    world, some_are_left = stored_on_fake, removed != "all"
    async with world.supervised():
        out = [volume(path, "RW", bucket.name, prefix=path[1:]) for path in ("/out", "/more")]
        job = await world.submit(RUNS_ON, volumes=out)
        await world.reach(job, State.RUNNING)
        for index in (0,) if removed == "one of two" else (0, 1):
            world.volume(job, index).rmdir()
        if removed == "all volumes of all":
            shutil.rmtree(world.settings.volumes_dir)
        await world.fake.exit(await world.name(job), 0)
        ended = await world.end(job)
    said = "The node's storage failed: volume 0: No such file or directory."
    assert (ended.state, ended.info.code) == (State.ERROR, "node-storage")
    assert ended.info.message == (f"{said} {KEPT}" if some_are_left else said)
    assert ended.volumes_kept == some_are_left


async def test_an_engine_that_refuses_at_the_end_of_a_run_loses_nothing_of_it(
    stored_on_fake: World, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = stored_on_fake
    find = container.find

    async def refused(yard: Yard, run: RunId, *how: Any) -> Any:
        job = yard.watch.jobs.get(run.job)
        if job is not None and job.state is State.FINALIZING:
            raise EngineError("the engine is out of order")
        return await find(yard, run, *how)

    monkeypatch.setattr(container, "find", refused)
    async with world.supervised():
        job = await world.submit(RUNS_ON, volumes=[volume("/out", "RW", bucket.name)])
        await world.reach(job, State.RUNNING)
        (world.volume(job) / "model").write_bytes(b"weights")
        await world.fake.exit(await world.name(job), 0)
        ended = await world.end(job)
        assert (ended.state, ended.info.code, ended.volumes_kept) == (State.ERROR, "engine-refused", True)
        await swept(world)
        assert not (await _pushed_again(world, job)).volumes_kept
    assert await bucket.holds() == {"model": b"weights"}


async def test_a_container_that_the_engine_does_not_remove_makes_no_other_end(
    stored_on_fake: World, bucket: Bucket, door: Door
) -> None:
    """Its run is over and pushed; a sweep removes it. What could not be pushed is kept all the same."""
    world = stored_on_fake
    async with world.supervised():
        for shut in (False, True):
            job = await world.submit(RUNS_ON, volumes=[volume("/out", "RW", bucket.name)])
            await world.reach(job, State.RUNNING)
            (world.volume(job) / "model").write_bytes(b"weights")
            for _ in range(FAILURES):
                world.fake.fail_next("remove", error=EngineError("the engine is out of order"))
            if shut:
                door.shut()
            await world.fake.exit(await world.name(job), 0)
            ended = await world.end(job)
            assert (ended.state, ended.volumes_kept) == (State.FAILED if shut else State.DONE, shut)

        async def removed() -> bool:
            return not world.fake._containers

        await until(removed)
        door.open()
        assert not (await _pushed_again(world, job)).volumes_kept


async def _pushed_again(world: World, job: UUID) -> Job:
    await world.order(cmd.SyncData(project=PROJECT, job=job, sync_id="again", direction="push"))

    def is_over(known: Job) -> bool:
        return any(sync.id == "again" and sync.state != "RUNNING" for sync in known.data_syncs)

    return await world.when(job, lambda known, _: is_over(known), "pushed again")

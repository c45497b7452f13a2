"""Data that is pulled and pushed because somebody asked for it while the job runs."""

from __future__ import annotations

import asyncio
from typing import Literal
from uuid import UUID

import pytest

from service.domain import commands as cmd
from service.domain.job import DataSync, Job
from service.domain.states import State
from service.supervisor.orders import ENDED_FIRST, OUR_FAULT
from service.supervisor.sync import move
from tests.supervisor.bucket import Bucket
from tests.supervisor.door import Door
from tests.supervisor.lab import RUNS_ON
from tests.supervisor.world import PROJECT, World, volume
from tests.support.waiting import until


async def order(
    world: World, job: UUID, sync_id: str, direction: Literal["pull", "push"], index: int | None = None
) -> None:
    await world.order(
        cmd.SyncData(project=PROJECT, job=job, sync_id=sync_id, direction=direction, volume=index)
    )


def sync_of(job: Job, sync_id: str) -> DataSync | None:
    return next((sync for sync in job.data_syncs if sync.id == sync_id), None)


async def over(world: World, job: UUID, sync_id: str) -> DataSync:
    """The synchronisation, once it has ended."""

    def is_over(known: Job) -> bool:
        found = sync_of(known, sync_id)
        return found is not None and found.state != "RUNNING"

    ended = await world.when(job, lambda known, _: is_over(known), f"sync {sync_id} over")
    found = sync_of(ended, sync_id)
    assert found is not None
    return found


async def exits(world: World, job: UUID, code: int = 0) -> None:
    await world.fake.exit(await world.name(job), code)


async def test_a_running_jobs_data_is_pushed_and_pulled_on_order(
    stored_on_fake: World, bucket: Bucket
) -> None:
    world = stored_on_fake
    async with world.supervised():
        volumes = [volume("/out", "RW", bucket.name, "out/"), volume("/in", "RO", bucket.name, "in/")]
        job = await world.submit(RUNS_ON, volumes=volumes)
        await world.reach(job, State.RUNNING)
        (world.volume(job) / "checkpoint").write_bytes(b"1")
        await order(world, job, "first", "push")
        pushed = await over(world, job, "first")
        assert (pushed.state, pushed.manual, pushed.volume) == ("DONE", True, None)
        assert [each.volume for each in pushed.volumes] == [0]
        assert await bucket.holds() == {"out/checkpoint": b"1"}
        await bucket.put({"in/more": b"new"})
        await order(world, job, "second", "pull", 1)
        pulled = await over(world, job, "second")
        assert (pulled.state, pulled.direction, pulled.volume) == ("DONE", "pull", 1)
        assert (world.volume(job, 1) / "more").read_bytes() == b"new"
        running = await world.ledger.job(job)
        assert (running.state, running.sync_orders) == (State.RUNNING, ())
        await exits(world, job)
        ended = await world.end(job)
    assert (ended.state, ended.outcome) == (State.DONE, State.DONE)
    assert [sync.state for sync in ended.data_syncs] == ["DONE"] * 4


async def test_an_order_that_fails_is_no_failure_of_the_job(
    stored_on_fake: World, bucket: Bucket, door: Door
) -> None:
    world = stored_on_fake
    async with world.supervised():
        job = await world.submit(RUNS_ON, volumes=[volume("/out", "RW", bucket.name)])
        await world.reach(job, State.RUNNING)
        (world.volume(job) / "model").write_bytes(b"w")
        door.shut()
        await order(world, job, "first", "push")
        failed = await over(world, job, "first")
        assert failed.state == "FAILED"
        assert "could not be used" in failed.message
        assert (await world.ledger.job(job)).state is State.RUNNING
        door.open()
        await order(world, job, "second", "push")
        assert (await over(world, job, "second")).state == "DONE"
        await exits(world, job)
        assert (await world.end(job)).state is State.DONE
    assert await bucket.holds() == {"model": b"w"}


async def test_an_order_that_nobody_has_thought_of_ends(
    stored_on_fake: World, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a reason, and once: it does not begin anew for ever."""
    world = stored_on_fake

    async def broken(*_: object, **__: object) -> None:
        await asyncio.sleep(0)
        raise TypeError("a secret")

    async with world.supervised():
        job = await world.submit(RUNS_ON, volumes=[volume("/v", "RW", bucket.name)])
        await world.reach(job, State.RUNNING)
        with monkeypatch.context() as patched:
            patched.setattr(move, "pull", broken)
            await order(world, job, "first", "pull")
            failed = await over(world, job, "first")
        assert (failed.state, failed.message) == ("FAILED", OUR_FAULT)
        await order(world, job, "second", "pull")
        assert (await over(world, job, "second")).state == "DONE"
        await exits(world, job)
        assert (await world.end(job)).state is State.DONE


async def test_the_end_of_the_process_does_not_wait_for_an_order(
    stored_on_fake: World, bucket: Bucket, door: Door
) -> None:
    world = stored_on_fake
    async with world.supervised():
        job = await world.submit(RUNS_ON, volumes=[volume("/out", "RW", bucket.name)])
        await world.reach(job, State.RUNNING)
        (world.volume(job) / "model").write_bytes(b"w")
        door.hold()  # a push would fail by itself at a door that is shut
        await order(world, job, "first", "push")
        await order(world, job, "second", "push", 0)
        await world.when(job, lambda known, _: sync_of(known, "first") is not None, "the push began")
        await exits(world, job, 3)
        await world.reach(job, State.FINALIZING)
        door.open()
        ended = await world.end(job)
    assert (ended.state, ended.exit_code, ended.sync_orders) == (State.FAILED, 3, ())
    for sync_id in ("first", "second"):
        dropped = sync_of(ended, sync_id)
        assert dropped is not None
        assert (dropped.state, dropped.message) == ("FAILED", ENDED_FIRST)
    assert ended.data_syncs[-1].state == "DONE"
    assert await bucket.holds() == {"model": b"w"}


async def test_an_order_outlives_its_supervisor(stored_on_fake: World, bucket: Bucket, door: Door) -> None:
    world = stored_on_fake
    async with world.supervised():
        job = await world.submit(RUNS_ON, volumes=[volume("/out", "RW", bucket.name)])
        await world.reach(job, State.RUNNING)
        (world.volume(job) / "model").write_bytes(b"w")
        door.hold()  # a push would fail by itself at a door that is shut
        await order(world, job, "first", "push")
        await world.when(job, lambda known, _: sync_of(known, "first") is not None, "the push began")
    door.open()
    assert (await world.ledger.job(job)).sync_orders != ()
    async with world.supervised():
        assert (await over(world, job, "first")).state == "DONE"
        assert await bucket.holds() == {"model": b"w"}
        await until(lambda: world.volume(job).exists(), what="the volume is still the job's")
        await exits(world, job)
        await world.end(job)

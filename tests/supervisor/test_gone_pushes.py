"""What was kept of a run is pushed when that is ordered, also where its engine is gone: by one at a time."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any, TypeVar
from uuid import UUID

import pytest

from service.domain import commands as cmd
from service.domain.events import DataSyncMoved
from service.domain.job import Job
from service.domain.states import State
from service.ledger.leases import Lease
from service.outward import names
from service.supervisor import orphans, sync
from tests.supervisor.bucket import Bucket
from tests.supervisor.door import Door
from tests.supervisor.replaced import (
    another_engine,
    asks_for_lease,
    given_to_another,
    nobody_holds,
    submitted,
)
from tests.supervisor.world import PROJECT, World
from tests.support.waiting import DEADLINE_S, until

T = TypeVar("T")

#: Long enough to renew it in time on a busy machine.
TTL_S = 0.8


@pytest.fixture(autouse=True)
def _gone_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphans, "LEASES_OVER", 1)


@pytest.mark.parametrize("state", [State.FAILED, State.ERROR])
async def test_what_was_kept_of_a_run_is_pushed_once_its_engine_is_gone(
    stored_on_fake: World, bucket: Bucket, door: Door, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = stored_on_fake
    job = await left_kept(world, bucket, door, state)
    another_engine(world)
    await order_push(world, job)
    push_all, asked_by = sync.push_all, set()

    def watched(*of: Any, **how: Any) -> Any:
        asked_by.add(names.asker())
        return push_all(*of, **how)

    monkeypatch.setattr(sync, "push_all", watched)
    async with world.supervised(lease_ttl_s=TTL_S):
        pushed = await pushed_again(world, job)
        assert (pushed.state, pushed.volumes_kept, pushed.data_syncs[-1].state) == (state, False, "DONE")
        await until(lambda: not world.volume(job).parent.exists(), what="the volume is removed")
    assert await bucket.holds() == {"model": b"weights"}
    assert asked_by == {PROJECT}


async def test_several_are_pushed_in_turn(
    stored_on_fake: World, bucket: Bucket, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them under the one lease that their engine has, which is no reason to think that it is back."""
    world = stored_on_fake
    jobs = [await left_kept(world, bucket, door) for _ in range(3)]
    engine_id = world.fake._info.id
    another_engine(world)
    looks, asked = looked(monkeypatch), asks_for_lease(world, engine_id)
    for job in jobs:
        await order_push(world, job)
    door.hold()
    door.knocked.clear()
    async with world.supervised(lease_ttl_s=TTL_S):
        await soon(door.knocked.wait())
        while not looks.empty():
            looks.get_nowait()
        assert [await soon(looks.get()) for _ in range(3)] == [True] * 3
        door.open()
        for job in jobs:
            assert not (await pushed_again(world, job)).volumes_kept
    assert None not in [asked.get_nowait() for _ in range(asked.qsize())]


async def test_what_the_engines_own_supervisor_has_pushed_is_not_pushed_again(
    stored_on_fake: World, bucket: Bucket, door: Door
) -> None:
    """It came back, pushed, and went, just before its lease was taken for that."""
    world = stored_on_fake
    job = await left_kept(world, bucket, door)
    engine_id, own = world.fake._info.id, replace(world)
    another_engine(world)
    await order_push(world, job)
    take, taken = world.ledger.take_lease, asyncio.Queue[Lease | None]()

    async def late(engine: str, *how: Any, **more: Any) -> Lease | None:
        if engine == engine_id and job_is_open:
            job_is_open.clear()
            async with own.supervised(lease_ttl_s=TTL_S):
                await pushed_again(own, job)
        lease = await take(engine, *how, **more)
        if engine == engine_id and not job_is_open:
            taken.put_nowait(lease)
        return lease

    job_is_open = [job]
    world.ledger.take_lease = late  # type: ignore[method-assign]
    async with world.supervised(lease_ttl_s=TTL_S):
        assert await soon(taken.get()) is not None, "of the supervisor that came back"
        assert await soon(taken.get()) is not None
        await until(lambda: nobody_holds(world, engine_id), what="the lease is given back")
    said = [event.body for event in await world.events(job)]
    states = [body.state for body in said if isinstance(body, DataSyncMoved) and body.sync_id == "again"]
    assert states.count("DONE") == 1 and states[-1] == "DONE"


async def test_a_push_of_what_is_not_on_this_node_is_answered(
    stored_on_fake: World, bucket: Bucket, door: Door
) -> None:
    """It failed, and says why. What is kept elsewhere stays so: the job can be started, or deleted."""
    world = stored_on_fake
    job = await left_kept(world, bucket, door)
    shutil.rmtree(world.settings.volumes_dir / str(job))
    another_engine(world)
    await order_push(world, job)
    async with world.supervised(lease_ttl_s=TTL_S):
        answered = await pushed_again(world, job)
        assert (answered.volumes_kept, answered.data_syncs[-1].state) == (True, "FAILED")
        assert answered.data_syncs[-1].message == "What was kept is not on node node-1."
        await world.delete(job)


@pytest.mark.parametrize("why", ["another node's", "its lease is held"])
async def test_what_somebody_else_may_push_is_left_to_him(
    stored_on_fake: World, bucket: Bucket, door: Door, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = stored_on_fake
    job = await left_kept(world, bucket, door)
    first, engine_id = world.engine, world.fake._info.id
    held = None
    if why == "its lease is held":
        held = await world.ledger.take_lease(engine_id, "elsewhere/1", 3600.0)
    another_engine(world)
    await order_push(world, job)
    looks = looked(monkeypatch)
    node = "node-2" if why == "another node's" else "node-1"
    async with world.supervised(lease_ttl_s=TTL_S, node=node):
        assert [await soon(looks.get()) for _ in range(4)] == [False] * 4
        known = await world.ledger.job(job)
        assert (known.push_ordered, known.data_syncs[-1].manual) == ("again", False)
    if held is not None:
        await world.ledger.release_lease(held)
    world.engine = first
    async with world.supervised():
        assert not (await pushed_again(world, job)).volumes_kept


async def test_a_supervisor_of_the_engine_that_comes_back_waits_until_it_is_pushed(
    stored_on_fake: World, bucket: Bucket, door: Door
) -> None:
    """It has the host's lock of its engine, and takes the lease at once from who had that lock before."""
    world = stored_on_fake
    job = await left_kept(world, bucket, door)
    first = world.engine
    another_engine(world)
    door.hold()
    door.knocked.clear()
    await order_push(world, job)
    async with world.supervised(lease_ttl_s=TTL_S):
        await soon(door.knocked.wait())
        asked = asks_for_lease(world)
        world.engine = first
        async with world.supervised(lease_ttl_s=TTL_S, ready=False) as back:
            for _ in range(3):
                assert await soon(asked.get()) is None
            assert not back.ready.is_set()
            door.open()
            assert not (await pushed_again(world, job)).volumes_kept
            await soon(back.ready.wait())
    syncs = (await world.ledger.job(job)).data_syncs
    assert [sync.state for sync in syncs if sync.id == "again"] == ["DONE"]
    assert await bucket.holds() == {"model": b"weights"}


async def test_who_loses_the_lease_lets_go_of_the_push(
    stored_on_fake: World, bucket: Bucket, door: Door
) -> None:
    """As when it was stopped for longer than a lease lasts, and the engine's own supervisor came back."""
    world = stored_on_fake
    job = await left_kept(world, bucket, door)
    engine_id = world.fake._info.id
    another_engine(world)
    door.hold()
    door.knocked.clear()
    await order_push(world, job)
    async with world.supervised(lease_ttl_s=TTL_S):
        await soon(door.knocked.wait())
        lost = await given_to_another(world, engine_id)
        asked = asks_for_lease(world, engine_id)
        assert await soon(asked.get()) is None, "it began anew, and so had let go"
        door.open()
        known = await world.ledger.job(job)
        assert (known.push_ordered, await bucket.holds()) == ("again", {})
        await world.ledger.release_lease(lost)
        assert not (await pushed_again(world, job)).volumes_kept
    assert await bucket.holds() == {"model": b"weights"}


async def test_who_cannot_renew_the_lease_lets_go_of_the_push(
    stored_on_fake: World, bucket: Bucket, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it is over, and somebody else may have it."""
    world = stored_on_fake
    job = await left_kept(world, bucket, door)
    engine_id, renew = world.fake._info.id, world.ledger.renew_lease
    another_engine(world)
    door.hold()
    door.knocked.clear()
    await order_push(world, job)
    cut = asyncio.Event()

    async def cut_off(lease: Lease, *how: Any, **more: Any) -> bool:
        if lease.engine == engine_id and cut.is_set():
            await asyncio.Event().wait()
        return await renew(lease, *how, **more)

    monkeypatch.setattr(world.ledger, "renew_lease", cut_off)
    async with world.supervised(lease_ttl_s=TTL_S):
        await soon(door.knocked.wait())
        asked = asks_for_lease(world, engine_id)
        cut.set()
        assert await soon(asked.get()) is not None, "it let go, gave it back, and began anew"
        cut.clear()
        door.open()
        assert not (await pushed_again(world, job)).volumes_kept
    assert await bucket.holds() == {"model": b"weights"}


async def left_kept(world: World, bucket: Bucket, door: Door, state: State = State.FAILED) -> UUID:
    """A job that has ended and whose volume is kept; nobody is there any more."""
    async with world.supervised(lease_ttl_s=0.05):
        job = await submitted(world, bucket)
        door.shut()
        if state is State.FAILED:
            await world.fake.exit(await world.name(job), 0)
        else:
            await world.engine.remove((await world.container(job)).id, force=True)
        ended = await world.end(job)
        assert (ended.state, ended.volumes_kept) == (state, True)
    door.open()
    return job


async def order_push(world: World, job: UUID) -> None:
    await world.order(cmd.SyncData(project=PROJECT, job=job, sync_id="again", direction="push"))


async def pushed_again(world: World, job: UUID) -> Job:
    def is_over(known: Job) -> bool:
        return any(sync.id == "again" and sync.state != "RUNNING" for sync in known.data_syncs)

    return await world.when(job, lambda known, _: is_over(known), "pushed again")


async def soon(awaited: Awaitable[T]) -> T:
    async with asyncio.timeout(DEADLINE_S):
        return await awaited


def looked(monkeypatch: pytest.MonkeyPatch) -> asyncio.Queue[bool]:
    """What each look for orphans finds from now on."""
    looks: asyncio.Queue[bool] = asyncio.Queue()
    look = orphans.Orphans.look

    async def told(self: orphans.Orphans) -> bool:
        found = await look(self)
        looks.put_nowait(found)
        return found

    monkeypatch.setattr(orphans.Orphans, "look", told)
    return looks

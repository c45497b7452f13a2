"""Runs whose engine is gone end as our fault; those of an engine that somebody has are left to it."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from service.domain.states import State
from service.ledger.leases import Held
from tests.supervisor.lab import DONE, RUNS_ON
from tests.supervisor.replaced import another_engine
from tests.supervisor.world import World


async def left_running(world: World) -> UUID:
    async with world.supervised(lease_ttl_s=0.05):
        job = await world.submit(RUNS_ON)
        await world.reach(job, State.RUNNING)
    return job


@pytest.mark.parametrize("order", ["", "kill", "delete"])
async def test_a_run_whose_engine_is_gone_ends_and_costs_nothing(on_fake: World, order: str) -> None:
    job = await left_running(on_fake)
    if order == "kill":
        await on_fake.kill(job)
    elif order == "delete":
        await on_fake.delete(job, force=True)
    another_engine(on_fake)
    async with on_fake.supervised(lease_ttl_s=0.05):
        ended = await on_fake.end(job)
        assert (ended.state, ended.info.code) == (State.ERROR, "engine-gone")
        assert "is gone" in ended.info.message
        other = await on_fake.submit(DONE)
        assert (await on_fake.end(other)).state is State.DONE
    assert on_fake.created(job) == []
    run = await on_fake.bill(job)
    assert run.credited and run.net == 0


async def test_after_an_outage_of_the_ledger_the_others_have_time_to_say_that_they_are_there(
    on_fake: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That nobody renewed a lease for long says nothing at the first look."""
    job = await left_running(on_fake)
    another_engine(on_fake)
    leases, looks = on_fake.ledger.leases, 0

    async def told() -> list[Held]:
        nonlocal looks
        looks += 1
        return [each._replace(held=False, seen_s=3600.0) for each in await leases()]

    monkeypatch.setattr(on_fake.ledger, "leases", told)
    async with on_fake.supervised(lease_ttl_s=0.05):
        assert (await on_fake.end(job)).state is State.ERROR
    assert looks > 1


@pytest.mark.parametrize("why", ["another node's", "its lease is held", "its lease has just run out"])
async def test_a_run_that_somebody_has_or_may_have_is_left_alone(
    on_fake: World, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await left_running(on_fake)
    first, looks = on_fake.engine, asyncio.Semaphore(0)
    another_engine(on_fake)
    leases = on_fake.ledger.leases

    async def told() -> list[Held]:
        looks.release()
        held = why == "its lease is held"
        seen_s = 0.01 if why == "its lease has just run out" else 3600.0
        return [Held(each.engine, held, seen_s) for each in await leases()]

    monkeypatch.setattr(on_fake.ledger, "leases", told)
    node = "node-2" if why == "another node's" else "node-1"
    async with on_fake.supervised(lease_ttl_s=0.05, node=node):
        if why == "another node's":
            for _ in range(10):
                assert (await on_fake.end(await on_fake.submit(DONE))).state is State.DONE
            assert looks.locked(), "whose lease it is does not matter"
        else:
            for _ in range(12):
                await looks.acquire()
        assert (await on_fake.ledger.job(job)).state is State.RUNNING
    on_fake.engine = first
    monkeypatch.undo()
    async with on_fake.supervised():
        await on_fake.kill(job)
        assert (await on_fake.end(job)).state is State.INTERRUPTED

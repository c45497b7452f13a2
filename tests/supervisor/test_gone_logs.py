"""The log of a run whose engine or container is gone says that lines may be missing, or is not there."""

from __future__ import annotations

import shutil
from typing import Any
from uuid import UUID

import pytest

from service.domain.job import Job
from service.domain.states import State
from service.errors import EngineAway
from service.supervisor import container, shift
from service.supervisor.effects import Yard
from service.supervisor.engine.protocol import Container
from service.supervisor.logs.keeper import GONE, LogKeeper
from service.supervisor.logs.reader import LogReader
from service.supervisor.names import RunId
from tests.supervisor.lab import RUNS_ON
from tests.supervisor.replaced import another_engine, swept
from tests.supervisor.world import World
from tests.support.waiting import until

SHORT = 0.05
NOTE = f"[jobyard] {GONE.decode()}\n"


@pytest.fixture(autouse=True)
def _swept_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shift, "SWEEP_S", 0.05)


async def running(world: World) -> UUID:
    """A job that has printed a line, which is kept."""
    job = await world.submit(RUNS_ON)
    await world.reach(job, State.RUNNING)

    async def is_kept() -> bool:
        reader = LogReader(world.settings.logs_dir)
        return b"".join([chunk async for chunk in reader.read(job, 1)]) == b"ready\n"

    await until(is_kept, what="what it printed is kept")
    return job


async def ended_as_gone(world: World, job: UUID) -> Job:
    """By the supervisor of another engine, which has settled all of it."""
    another_engine(world)
    async with world.supervised(lease_ttl_s=SHORT):
        ended = await world.end(job)
        await swept(world)
    assert (ended.state, ended.info.code) == (State.ERROR, "engine-gone")
    return ended


async def has_log(world: World, job: UUID) -> bool:
    return await LogReader(world.settings.logs_dir).exists(job, 1)


async def test_the_log_of_a_run_whose_engine_is_gone_ends_with_a_note(on_fake: World) -> None:
    async with on_fake.supervised(lease_ttl_s=SHORT):
        job = await running(on_fake)
    another_engine(on_fake)
    async with on_fake.supervised(lease_ttl_s=SHORT):
        assert (await on_fake.end(job)).info.code == "engine-gone"
        assert await on_fake.log(job) == f"ready\n{NOTE}"


async def test_a_log_that_was_whole_before_its_engine_was_gone_gets_no_note(on_fake: World) -> None:
    async with on_fake.supervised(lease_ttl_s=SHORT):
        job = await running(on_fake)
        gate = on_fake.fake.gates.hold("remove")
        await on_fake.fake.exit(await on_fake.name(job), 0)
        await gate.reached.wait()
    await ended_as_gone(on_fake, job)
    assert await on_fake.log(job) == "ready\n"


async def test_no_log_is_made_where_none_is_and_the_engine_has_it_when_it_comes_back(on_fake: World) -> None:
    """As with a disk that is not mounted: who reads it is told so (`service.api.logs`), and not that nothing
    was printed."""
    first = on_fake.engine
    async with on_fake.supervised(lease_ttl_s=SHORT):
        job = await running(on_fake)
    shutil.rmtree(on_fake.settings.logs_dir)
    ended = await ended_as_gone(on_fake, job)
    assert ended.may_have_run
    assert not await has_log(on_fake, job)
    on_fake.engine = first
    async with on_fake.supervised(lease_ttl_s=SHORT):
        assert await on_fake.log(job) == "ready\n"


async def test_of_a_run_that_may_have_begun_no_empty_log_is_made(on_fake: World) -> None:
    gate = on_fake.fake.gates.hold("start", "after")
    async with on_fake.supervised(lease_ttl_s=SHORT):
        job = await on_fake.submit(RUNS_ON)
        await gate.reached.wait()
    ended = await ended_as_gone(on_fake, job)
    assert (ended.started_at, ended.may_have_run) == (None, True)
    assert not await has_log(on_fake, job)


async def test_the_log_of_a_run_that_never_ran_is_whole_and_empty(on_fake: World) -> None:
    """Its image was still being pulled when it was stopped, and its end not told when its engine was gone."""
    find = container.find

    async def away(yard: Yard, run: RunId, *how: Any) -> Container | None:
        known = yard.watch.jobs.get(run.job)
        if known is not None and known.state is State.FINALIZING:
            raise EngineAway("the engine does not answer")
        return await find(yard, run, *how)

    gate = on_fake.fake.gates.hold("pull")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(container, "find", away)
        async with on_fake.supervised(lease_ttl_s=SHORT):
            job = await on_fake.submit(RUNS_ON, image="not-there:1")
            await gate.reached.wait()
            await on_fake.kill(job)
            await on_fake.reach(job, State.FINALIZING)
    another_engine(on_fake)
    async with on_fake.supervised(lease_ttl_s=SHORT):
        ended = await on_fake.end(job)
        assert (ended.info.code, ended.may_have_run) == ("engine-gone", False)
        assert await on_fake.log(job) == ""


@pytest.mark.parametrize("later", [False, True])
async def test_the_log_of_a_run_whose_container_is_lost_ends_with_a_note(
    on_fake: World, later: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the log could not be ended at once, and a sweep does it."""
    seal, failures = LogKeeper.seal, 1 if later else 0

    def refused(self: LogKeeper, *of: Any, **how: Any) -> None:
        nonlocal failures
        if failures:
            failures -= 1
            raise OSError("no space left on device")
        seal(self, *of, **how)

    monkeypatch.setattr(LogKeeper, "seal", refused)
    async with on_fake.supervised():
        job = await running(on_fake)
        await on_fake.engine.remove((await on_fake.container(job)).id, force=True)
        assert (await on_fake.end(job)).info.code == "container-lost"
        assert await on_fake.log(job) == f"ready\n{NOTE}"
    assert not failures


async def test_the_log_of_a_container_that_is_lost_after_its_end_ends_with_a_note(
    on_fake: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How it ended is known; what it printed last is not."""
    find = container.find

    async def found(yard: Yard, run: RunId, *how: Any) -> Container | None:
        known = yard.watch.jobs.get(run.job)
        if known is not None and known.state is State.FINALIZING:
            for each in await on_fake.containers(run.job):
                await on_fake.engine.remove(each.id, force=True)
        return await find(yard, run, *how)

    monkeypatch.setattr(container, "find", found)
    async with on_fake.supervised():
        job = await running(on_fake)
        await on_fake.fake.exit(await on_fake.name(job), 0)
        assert (await on_fake.end(job)).state is State.DONE
        assert await on_fake.log(job) == f"ready\n{NOTE}"

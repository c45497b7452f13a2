"""A container that is left half removed: the engine calls it dead, and refuses its log from then on."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from service.domain import commands as cmd
from service.domain.job import Job
from service.domain.states import State
from service.errors import EngineAway, EngineError, NoSuchContainer
from service.supervisor import push_again, shift
from service.supervisor.driver import FAILURES
from service.supervisor.engine.refusals import logs_refused
from service.supervisor.engine.wire import Answer
from service.supervisor.logs.keeper import GONE
from tests.supervisor.bucket import Bucket
from tests.supervisor.lab import RUNS_ON, TALKS, Lab
from tests.supervisor.replaced import submitted
from tests.supervisor.world import PROJECT, World
from tests.support.engine.fake import NO_LOGS, FakeEngine
from tests.support.waiting import until


@pytest.fixture(autouse=True)
def _swept_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shift, "SWEEP_S", 0.05)


async def test_what_is_half_removed_has_no_log_never_starts_and_can_be_removed(either: Lab) -> None:
    ended = await either.ended(TALKS)
    async with _half_removed(either, ended.id):
        found = await either.engine.find(ended.id)
        assert found is not None
        assert (found.state, found.exit_code, found.finished_at) == ("dead", 0, ended.finished_at)
        hows: tuple[dict[str, Any], ...] = ({}, {"tail": 5}, {"follow": True})
        for how in hows:
            with pytest.raises(NoSuchContainer, match="half removed"):
                await either.output(ended.id, **how)
        with pytest.raises(EngineError, match="marked for removal"):
            await either.engine.start(ended.id)
    await either.engine.remove(ended.id)
    assert await either.engine.find(ended.id) is None


@asynccontextmanager
async def _half_removed(lab: Lab, container_id: str) -> AsyncIterator[None]:
    """A removal has failed; on the real engine, because one of the container's files cannot go."""
    if isinstance(lab.engine, FakeEngine):
        lab.engine.half_remove(container_id)
        yield
        return
    held = Path((await lab.engine.info()).root_dir, "containers", container_id, "hostname")
    subprocess.run(["chattr", "+i", held], check=True)
    try:
        with pytest.raises(EngineError, match="operation not permitted"):
            await lab.engine.remove(container_id)
        yield
    finally:
        subprocess.run(["chattr", "-i", held], check=True)


def test_no_other_refusal_of_a_log_says_that_nothing_is_left_of_it() -> None:
    def refused(status: int, said: str = "") -> type[Exception]:
        return type(logs_refused("c", Answer(status, {"message": said})))

    assert refused(404) is refused(409, NO_LOGS) is NoSuchContainer
    assert refused(409, "another reason") is refused(500, NO_LOGS) is refused(501) is EngineError
    assert refused(503, NO_LOGS) is EngineAway


async def test_a_run_whose_container_is_half_removed_has_its_own_end(on_fake: World) -> None:
    """And what is missing of its log is told there."""
    async with on_fake.supervised():
        job = await on_fake.submit(RUNS_ON)
        await on_fake.reach(job, State.RUNNING)
        await until(lambda: "ready" in _kept(on_fake), what="its log is kept so far")
    name = await on_fake.name(job)
    await on_fake.fake.write(name, b"epoch 1\n")
    await on_fake.fake.exit(name, 3)
    on_fake.fake.half_remove((await on_fake.container(job)).id)
    async with on_fake.supervised():
        ended = await on_fake.end(job)
        assert (ended.state, ended.info.code, ended.exit_code) == (State.FAILED, "exit-code", 3)
        assert (await on_fake.log(job)).splitlines() == ["ready", f"[jobyard] {GONE.decode()}"]
        await until(lambda: not on_fake.fake._containers, what="the container is removed")


def _kept(world: World) -> str:
    return "".join(path.read_text() for path in world.settings.logs_dir.rglob("*") if path.is_file())


@pytest.mark.parametrize("stays", [False, True], ids=["can be removed", "cannot be removed"])
async def test_what_was_kept_of_a_run_is_pushed_although_its_container_is_half_removed(
    stored_on_fake: World, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, stays: bool
) -> None:
    """Nothing can start it again and write, so it need not go before."""
    world = stored_on_fake
    removals = Removals(world, monkeypatch, half=True)
    async with world.supervised():
        job = await _refused_at_its_end(world, bucket, half_removed=True)
        if not stays:
            removals.fail = False
        await _order_push(world, job)
        assert (await _pushed(world, job)).state is State.ERROR
        assert await bucket.holds() == {"model": b"weights"}
        assert world.fake._containers or not stays
        removals.fail = False
        await until(lambda: not world.fake._containers, what="the container is removed")


async def test_what_could_be_started_again_is_removed_before_its_volumes_are_pushed(
    stored_on_fake: World, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = stored_on_fake
    monkeypatch.setattr(push_again, "_LATER_S", 0.05)
    removals = Removals(world, monkeypatch, half=False)
    async with world.supervised():
        job = await _refused_at_its_end(world, bucket, half_removed=False)
        await _order_push(world, job)
        tried = removals.tried
        await until(lambda: removals.tried > tried + 5, what="tried by sweeps and for the push")
        assert (await world.ledger.job(job)).push_ordered == "again"
        assert await bucket.holds() == {}
        removals.fail = False
        await _pushed(world, job)
        assert (await bucket.holds(), world.fake._containers) == ({"model": b"weights"}, {})


class Removals:
    """The engine fails to remove containers, for as long as a test wants; `half`, or they are as before."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch, *, half: bool) -> None:
        self.fail, self.tried = True, 0
        remove = world.fake.remove

        async def removed(container_id: str, *, force: bool = False) -> None:
            self.tried += 1
            if not self.fail:
                return await remove(container_id, force=force)
            if half:
                world.fake.half_remove(container_id)
            raise EngineError("device or resource busy")

        monkeypatch.setattr(world.fake, "remove", removed)


async def _refused_at_its_end(world: World, bucket: Bucket, *, half_removed: bool) -> UUID:
    """A job in ERROR, which has kept something, and whose container is there."""
    job = await submitted(world, bucket)
    for _ in range(FAILURES):
        world.fake.fail_next("was_told_to_stop", error=EngineError("the engine is out of order"))
    container_id = (await world.container(job)).id
    await world.fake.exit(container_id, 3)
    if half_removed:
        world.fake.half_remove(container_id)
    ended = await world.end(job)
    assert (ended.state, ended.info.code, ended.volumes_kept) == (State.ERROR, "engine-refused", True)
    return job


async def _order_push(world: World, job: UUID) -> None:
    await world.order(cmd.SyncData(project=PROJECT, job=job, sync_id="again", direction="push"))


async def _pushed(world: World, job: UUID) -> Job:
    return await world.when(job, lambda known, _: known.ended and not known.volumes_kept, "pushed")

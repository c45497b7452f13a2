"""Nobody looked after the runs for a time: all of it is told of each, whatever comes in between."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.domain.events import RunAdopted
from service.domain.states import State
from service.supervisor.names import RunId, container_name
from tests.supervisor.lab import RUNS_ON
from tests.supervisor.stoppable import Stopped
from tests.supervisor.world import World
from tests.support.waiting import until


async def test_who_is_cut_off_as_it_takes_over_leaves_the_whole_absence_to_the_next(on_fake: World) -> None:
    async with on_fake.supervised():
        jobs = [await on_fake.submit(RUNS_ON) for _ in range(2)]
        for job in jobs:
            await on_fake.reach(job, State.RUNNING)
    seen, left = await _renewed_at(on_fake), await on_fake.ledger.now()
    stopped = Stopped()
    stopped.stop_before = "renew_lease"
    async with on_fake.supervised(ready=False, stopped=stopped):
        await stopped.reached.wait()
    assert await _renewed_at(on_fake) == seen
    async with on_fake.supervised():
        assert await _renewed_at(on_fake) > seen
    adopted = [event.body for event in await on_fake.events() if isinstance(event.body, RunAdopted)]
    assert [(body.epoch, body.absent_since < left) for body in adopted] == [(3, True)] * 2


@pytest.mark.parametrize("told_to_stop", [False, True])
async def test_an_order_while_nobody_was_there_to_stop_what_had_ended(
    on_fake: World, *, told_to_stop: bool
) -> None:
    """It is DONE as if there had been no order; or, told to stop on its node, is our fault as without one."""
    fake = on_fake.fake
    async with on_fake.supervised():
        job = await on_fake.submit(RUNS_ON)
        running = await on_fake.reach(job, State.RUNNING)
    began = running.started_at
    assert began is not None
    container = await on_fake.container(job)
    if told_to_stop:
        await fake.stop(container.id, 1)
    else:
        await fake.exit(container_name(RunId(job, 1)))
    fake._containers[container.id].finished_at = began + timedelta(milliseconds=1)

    async def clearly_later() -> bool:
        return await on_fake.ledger.now() > began + timedelta(seconds=2)

    await until(clearly_later)
    await on_fake.kill(job)
    async with on_fake.supervised():
        ended = await on_fake.end(job)
    exited = next(event for event in await on_fake.events(job) if event.type == "RunExited")
    assert exited.body.ended_at is not None
    assert (ended.state, ended.info.code) == (
        (State.FAILED, "stopped-outside") if told_to_stop else (State.DONE, "done")
    )
    assert (await on_fake.bill(job)).credited == told_to_stop


async def test_what_we_stop_was_stopped_by_us_although_its_engines_clock_is_slow(on_fake: World) -> None:
    fake, hour = on_fake.fake, timedelta(hours=1)
    fake._clock = lambda: datetime.now(UTC) - hour
    async with on_fake.supervised():
        job = await on_fake.submit(RUNS_ON)
        await on_fake.reach(job, State.RUNNING)
        await on_fake.kill(job)
        assert (await on_fake.end(job)).state is State.INTERRUPTED


async def _renewed_at(world: World) -> Any:
    return await world.ledger.pool.fetchval("SELECT renewed_at FROM leases")

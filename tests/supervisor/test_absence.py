"""Nobody looked after the runs for a time: all of it is told of each, whatever comes in between."""

from __future__ import annotations

from typing import Any

from service.domain.events import RunAdopted
from service.domain.states import State
from tests.supervisor.lab import RUNS_ON
from tests.supervisor.stoppable import Stopped
from tests.supervisor.world import World


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


async def _renewed_at(world: World) -> Any:
    return await world.ledger.pool.fetchval("SELECT renewed_at FROM leases")

"""The database's clock was ahead for a commit and was put right: no run begins until it has caught up."""

from __future__ import annotations

import asyncpg
import structlog

from service.domain.behind import CLOCK_BEHIND
from service.domain.events import AdmissionSet
from service.domain.states import State
from tests.supervisor.lab import DONE, RUNS_ON
from tests.supervisor.world import World
from tests.support.waiting import until


async def last_event_at(world: World, moment: str) -> None:
    """As a commit leaves it when the clock was there."""
    connection = await asyncpg.connect(world.url)
    try:
        await connection.execute(f"UPDATE jobyard.ledger_head SET recorded_at = {moment}")
    finally:
        await connection.close()


async def told(world: World) -> list[str | None]:
    found = [event.body.stopped for event in await world.events() if isinstance(event.body, AdmissionSet)]
    return [each.code if each is not None else None for each in found]


async def test_no_run_begins_while_the_clock_is_behind_and_running_ones_go_on(on_fake: World) -> None:

    async def stopped() -> bool:
        return await told(on_fake) == [CLOCK_BEHIND]

    with structlog.testing.capture_logs() as log:
        async with on_fake.supervised(room_look_s=0.05, lease_ttl_s=0.6):
            runs = await on_fake.submit(RUNS_ON)
            await on_fake.reach(runs, State.RUNNING)
            await last_event_at(on_fake, "clock_timestamp() + interval '1 day'")
            await until(stopped)
            waits = await on_fake.submit(DONE)
            assert (await on_fake.told(waits, CLOCK_BEHIND)).state is State.QUEUED
            assert (await on_fake.ledger.job(runs)).state is State.RUNNING
            assert (await on_fake.container(runs)).state == "running"
            await last_event_at(on_fake, "clock_timestamp()")
            assert (await on_fake.end(waits)).state is State.DONE
            assert await told(on_fake) == [CLOCK_BEHIND, None]
    (said,) = [line for line in log if "clock is behind" in line["event"]]
    assert said["log_level"] == "warning"
    assert 86_000 < said["behind_s"] <= 86_400


async def test_a_clock_that_is_a_little_behind_stops_nothing(on_fake: World) -> None:
    await last_event_at(on_fake, "clock_timestamp() + interval '4 seconds'")
    async with on_fake.supervised(room_look_s=0.05):
        job = await on_fake.submit(DONE)
        assert (await on_fake.end(job)).state is State.DONE
        assert await told(on_fake) == []

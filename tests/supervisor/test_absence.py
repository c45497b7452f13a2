"""Nobody looked after the runs for a time: all of it is told of each, whatever comes in between."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from errno import ENOSPC
from typing import Any

import pytest

from service.domain import commands as cmd
from service.domain.events import RunAdopted
from service.domain.states import State
from service.errors import Unavailable
from service.supervisor import volumes
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
        await fake.exit(await on_fake.name(job))
    fake._containers[container.id].finished_at = began + timedelta(milliseconds=1)
    await _until_clearly_after(on_fake, began)
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


@pytest.mark.parametrize("stop", ["before", "after"])
async def test_what_was_to_be_stopped_by_us_is_interrupted_whoever_finds_it_ended(
    on_fake: World, stop: str
) -> None:
    """Killed around the stop, and the engine's clock is set back meanwhile: its end lies before the order."""
    fake = on_fake.fake
    gate = fake.gates.hold("stop", stop)
    async with on_fake.supervised():
        job = await on_fake.submit(RUNS_ON)
        began = (await on_fake.reach(job, State.RUNNING)).started_at
        assert began is not None
        await _until_clearly_after(on_fake, began)
        fake._clock = lambda: began + timedelta(milliseconds=1)
        await on_fake.kill(job)
        await gate.reached.wait()
    if stop == "before":  # it was there still when it was to be stopped, and ends before anybody is back
        await fake.exit(await on_fake.name(job))
    async with on_fake.supervised():
        ended = await on_fake.end(job)
    assert (ended.state, ended.info.code) == (State.INTERRUPTED, "interrupted")


async def test_a_disk_that_takes_no_mark_keeps_nobody_from_stopping_a_run(
    on_fake: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with on_fake.supervised():
        job = await on_fake.submit(RUNS_ON)
        began = (await on_fake.reach(job, State.RUNNING)).started_at
        assert began is not None

        def full(*_: object) -> None:
            raise OSError(ENOSPC, "No space left on device")

        monkeypatch.setattr(volumes, "mark", full)
        await _until_clearly_after(on_fake, began)
        # Whoever stops it knows that it did, although the engine's clock is back and its answer is lost.
        on_fake.fake._clock = lambda: began + timedelta(milliseconds=1)
        on_fake.fake.fail_next("stop", "after")
        await on_fake.kill(job)
        assert (await on_fake.end(job)).state is State.INTERRUPTED


@pytest.mark.parametrize("state", [State.INITIALIZING, State.RUNNING])
async def test_a_ledger_that_is_away_for_long_leaves_nobody_looking_after_the_runs(
    on_fake: World, monkeypatch: pytest.MonkeyPatch, state: State
) -> None:
    """The lease is ours all the while, and no supervisor begins; the run is told before it goes on."""
    away = False
    ledger = on_fake.ledger
    submit, renew = ledger.submit, ledger.renew_lease

    async def submitted(command: cmd.Command, **how: Any) -> Any:
        nonlocal away
        if away and isinstance(command, cmd.RunCommand):
            raise Unavailable("the ledger is away")
        receipt = await submit(command, **how)
        away = away or isinstance(command, cmd.PlaceRun if state is State.INITIALIZING else cmd.ReportStarted)
        return receipt

    async def renewed(*given: Any, **how: Any) -> bool:
        if away:
            raise Unavailable("the ledger is away")
        return await renew(*given, **how)

    monkeypatch.setattr(ledger, "submit", submitted)
    monkeypatch.setattr(ledger, "renew_lease", renewed)
    async with on_fake.supervised(lease_ttl_s=0.5):
        job = await on_fake.submit(RUNS_ON)
        left = await on_fake.reach(job, state)
        seen = await _renewed_at(on_fake)

        async def for_long() -> bool:
            return await ledger.now() > left.last_transition_at + timedelta(seconds=1)

        await until(for_long)
        back = await ledger.now()
        monkeypatch.undo()
        await on_fake.reach(job, State.RUNNING)
        await on_fake.when(job, lambda _, event: event.type == "RunAdopted", "told")
        await until_renewed_after(on_fake, back)
        await on_fake.fake.exit(await on_fake.name(job))
        await on_fake.end(job)
    events = await on_fake.events(job)
    at = next(index for index, event in enumerate(events) if event.type == "RunAdopted")
    moved = next(event for event in events if getattr(event.body, "target", None) is state)
    assert events[at - 1] == moved
    assert events[at].body.epoch == 1
    assert events[at].body.absent_since <= max(seen, events[1].occurred_at)
    assert events[at].occurred_at >= back


async def _until_clearly_after(world: World, at: datetime) -> None:
    async def clearly_later() -> bool:
        return await world.ledger.now() > at + timedelta(seconds=2)

    await until(clearly_later)


async def until_renewed_after(world: World, at: datetime) -> None:
    async def renewed() -> bool:
        return bool(await _renewed_at(world) > at)

    await until(renewed)


async def _renewed_at(world: World) -> Any:
    return await world.ledger.pool.fetchval("SELECT renewed_at FROM leases")

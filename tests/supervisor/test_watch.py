"""What the supervisor knows of the jobs: nothing stops it from hearing of them; what is over stays over."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest

from service.domain.job import Job
from service.domain.states import State
from service.ledger.read import Mark
from service.supervisor import shift
from service.supervisor import supervisor as supervising
from service.supervisor.watch import Watch
from tests.supervisor.lab import RUNS_ON
from tests.supervisor.world import World
from tests.support.jobs import JOB
from tests.support.waiting import until
from tests.unit.histories import in_state


async def test_a_log_that_cannot_be_ended_now_is_ended_later_and_holds_up_nobody(
    on_fake: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a disk without space: a job that waits is killed, then one that runs."""
    monkeypatch.setattr(shift, "SWEEP_S", 0.05)
    async with on_fake.supervised():
        waits = await on_fake.submit(cpu=9)
        runs = await on_fake.submit(RUNS_ON)
        await on_fake.told(waits, "no-node-offers")
        await on_fake.reach(runs, State.RUNNING)
        in_the_way = on_fake.settings.logs_dir / str(waits)
        in_the_way.parent.mkdir(exist_ok=True)
        in_the_way.touch()
        await on_fake.kill(waits)
        await on_fake.kill(runs)
        assert (await on_fake.end(runs)).state is State.INTERRUPTED
        in_the_way.unlink()
        assert await on_fake.log(waits) == ""


class Asked:
    """A ledger that answers with what it had when it was asked, as late as a test wants."""

    def __init__(self, job: Job) -> None:
        self.now = job
        self.reached, self.open = asyncio.Event(), asyncio.Event()

    async def job_seen(self, _: UUID) -> tuple[Job, Mark]:
        asked = self.now
        self.reached.set()
        await self.open.wait()
        return asked, Mark(asked.position, b"")


async def test_what_was_read_late_revives_nothing() -> None:
    """The job is read as it waits; before that arrives, its end is heard of."""
    waits, over = in_state(State.QUEUED), in_state(State.INTERRUPTED)
    assert waits.job is not None
    ledger: Any = Asked(waits.job)
    watch = Watch(ledger, 1.0, lambda _: None)
    watch.put(waits.job)
    reading = asyncio.create_task(watch.refresh(JOB))
    await ledger.reached.wait()
    await watch.apply(over.events[-1:])
    ledger.open.set()
    assert await reading is None
    assert watch.jobs == {}


@pytest.mark.parametrize("cpu", [1, 9], ids=["could be placed", "could be told why it waits"])
async def test_what_is_no_longer_so_is_asked_for_anew(
    on_fake: World, monkeypatch: pytest.MonkeyPatch, cpu: int
) -> None:
    """A job that the supervisor takes for one that waits, whatever made it do so, takes no room for long."""
    watches: list[Watch] = []

    def made(*how: Any) -> Watch:
        watches.append(Watch(*how))
        return watches[-1]

    monkeypatch.setattr(supervising, "Watch", made)
    job = await on_fake.submit(cpu=cpu)
    waits = await on_fake.reach(job, State.QUEUED)
    await on_fake.kill(job)
    async with on_fake.supervised():
        (watch,) = watches
        watch.jobs[job] = waits
        watch.stirred.set()
        await until(lambda: job not in watch.jobs, what="it is known to be over")

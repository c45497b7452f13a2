"""A failover of Postgres to a standby that was behind, under a supervisor: it begins again, and sees all."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest
import structlog

from service.domain import commands as cmd
from service.domain.states import State
from service.errors import EventsLost
from service.ledger.ledger import Ledger
from service.supervisor.watch import Watch
from tests.ledger.standby import standby
from tests.supervisor.lab import DONE, RUNS_ON
from tests.supervisor.world import MASTER, PROJECT, World
from tests.support.waiting import DEADLINE_S, until

SAID = "a failover lost events; the supervisor begins again"


def labelled(job: UUID, value: str) -> cmd.SetLabel:
    return cmd.SetLabel(project=PROJECT, job=job, name="n", value=value)


async def elsewhere(world: World, *commands: cmd.Command) -> None:
    """What another process does."""
    async with Ledger.open(world.url, MASTER) as ledger:
        for command in commands:
            await ledger.submit(command, actor="elsewhere")


async def grown(world: World, watch: Watch) -> None:
    """The moment the supervisor has read the ledger to its end."""
    head = (await world.ledger.head()).position
    await until(lambda: watch._had.at.position == head)


@pytest.fixture
def watches(monkeypatch: pytest.MonkeyPatch) -> list[Watch]:
    """Those of all epochs."""
    made: list[Watch] = []
    load = Watch.load

    async def noted(self: Watch) -> None:
        made.append(self)
        await load(self)

    monkeypatch.setattr(Watch, "load", noted)
    return made


@pytest.mark.parametrize("since", [0, 30], ids=["shorter than it was", "longer than it was"])
async def test_what_is_written_at_positions_that_were_lost_is_heard_of(
    on_fake: World, watches: list[Watch], since: int
) -> None:
    """A stop order and a new job; containers go on meanwhile, and are taken over."""
    with structlog.testing.capture_logs() as log:
        async with on_fake.supervised() as supervisor:
            stopped, stays = await on_fake.submit(RUNS_ON), await on_fake.submit(RUNS_ON)
            for job in (stopped, stays):
                await on_fake.reach(job, State.RUNNING)
            async with standby(on_fake.url) as fail_over:
                await elsewhere(on_fake, *(labelled(stays, f"{number}") for number in range(12)))
                await grown(on_fake, watches[-1])
                await fail_over()
                await elsewhere(
                    on_fake,
                    cmd.KillJob(project=PROJECT, job=stopped),
                    *(labelled(stays, f"new.{number}") for number in range(since)),
                )
                assert (await on_fake.end(stopped)).state is State.INTERRUPTED
                later = await on_fake.submit(DONE)
                assert (await on_fake.end(later)).state is State.DONE
                await until(supervisor.ready.is_set)
            found = await on_fake.container(stays)
            assert (found.state, len(on_fake.created(stays))) == ("running", 1)
            await on_fake.kill(stays)
            assert (await on_fake.end(stays)).state is State.INTERRUPTED
    assert [line["log_level"] for line in log if line["event"] == SAID] == ["warning"]
    assert "supervisor failed; it begins again" not in [line["event"] for line in log]


@pytest.mark.parametrize("since", [0, 1], ids=["nothing has come since", "another came instead"])
async def test_a_state_that_was_read_before_its_event_is_known_to_be_lost(on_fake: World, since: int) -> None:
    """It was looked at right after the last word on it, which is all that the standby never had."""
    job = await on_fake.submit(RUNS_ON)
    watch = Watch(on_fake.ledger, 0.02, lambda _: None)
    await watch.load()
    async with standby(on_fake.url) as fail_over:
        await elsewhere(on_fake, labelled(job, "lost"))
        known = await watch.refresh(job)
        assert known is not None
        assert known.spec.labels["n"] == "lost"
        await fail_over()
        await elsewhere(on_fake, *[cmd.KillJob(project=PROJECT, job=job)] * since)
        async with asyncio.timeout(DEADLINE_S):
            with pytest.raises(EventsLost):
                await watch.run()


async def test_what_was_read_and_is_there_is_not_taken_for_lost(on_fake: World) -> None:
    job = await on_fake.submit(RUNS_ON)
    watch = Watch(on_fake.ledger, 0.02, lambda _: None)
    await watch.load()
    for number in range(3):
        await elsewhere(on_fake, labelled(job, f"{number}"))
        await watch.refresh(job)
    running = asyncio.create_task(watch.run())
    await grown(on_fake, watch)
    await elsewhere(on_fake, labelled(job, "last"))
    await grown(on_fake, watch)
    assert (running.done(), watch._had.ahead) == (False, set())
    assert watch.jobs[job].spec.labels["n"] == "last"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

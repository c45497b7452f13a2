"""A budget is reached while a run only runs: the supervisor has it looked at."""

from __future__ import annotations

from decimal import Decimal

from service.domain import commands as cmd
from service.domain import events as ev
from service.domain.events import Event
from service.domain.states import State
from tests.supervisor.lab import RUNS_ON
from tests.supervisor.world import PROJECT, World
from tests.support.waiting import until


async def warnings(world: World) -> list[Event]:
    return [event for event in await world.events() if isinstance(event.body, ev.BudgetWarned)]


async def later(world: World, seconds: int) -> None:
    """The ledger's clock never goes back: from here on it is at least so much later."""
    await world.ledger.pool.execute(
        "UPDATE ledger_head SET recorded_at = clock_timestamp() + $1 * interval '1 second'", seconds
    )


async def test_a_share_is_warned_of_while_nothing_happens_but_time(on_fake: World) -> None:
    world = on_fake
    budget = cmd.SetBudget(project=PROJECT, amount=Decimal("0.001"), warn_at=(Decimal(1),))
    async with world.supervised():
        job = await world.submit(RUNS_ON)
        await world.reach(job, State.RUNNING)
        await world.order(budget)
        assert await warnings(world) == []
        before = len(await world.events())
        await later(world, 61)
        await until(lambda: warnings(world), what="a warning")
        (warned,) = await warnings(world)
        assert (str(warned.body.share), warned.body.spent >= Decimal("0.001")) == ("1", True)
        assert warned.actor.startswith("supervisor:")
        assert len(await world.events()) == before + 1, "a look that finds nothing records nothing"

"""Leases and following: the product's own code over both, step by step."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from service.domain import commands as cmd
from service.ledger.follow import Had
from service.ledger.leases import Lease
from tests.chaos.simulation.conformance.grounds import Fake, Ground, Real
from tests.support.jobs import PRICES
from tests.support.waiting import until

HOLDERS = ("one/a", "one/b", "two/a")


async def _step(ledger: Any, roll: tuple[Any, ...], held: list[Lease]) -> Any:
    """What one call answers, without its times. `held`: what was ever taken, to be renewed or given back."""
    told = [each.absent_since for each in held]
    what, engine, holder, yes, which = roll
    if what == "take" or not held:
        lease = await ledger.take_lease(
            engine, holder, 600, gone=lambda before: yes and before[:3] == holder[:3]
        )
        if lease is None:
            return None
        held.append(lease)
        told.append(lease.absent_since)
        # The time itself differs; whether it is one that was told before does not.
        since = None if lease.absent_since is None else told.index(lease.absent_since)
        return lease.engine, lease.holder, lease.epoch, lease.unfenced, since
    lease = held[which % len(held)]
    if what == "renew":
        return await ledger.renew_lease(lease, 600, seen=yes)
    await ledger.release_lease(lease)
    return "released"


@pytest.mark.parametrize("seed", range(2))
async def test_the_same_calls_have_the_same_answers(real: Real, fake: Fake, seed: int) -> None:
    chance = Random(seed)
    held: tuple[list[Lease], list[Lease]] = ([], [])
    answers = set()
    async with real.ledger() as ledger, fake.ledger() as simulated:
        for step in range(60):
            what = chance.choice(("take", "take", "renew", "release"))
            yes, which = chance.random() < 0.3, chance.randrange(10)
            roll = (what, chance.choice("ef"), chance.choice(HOLDERS), yes, which)
            told, said = await _step(ledger, roll, held[0]), await _step(simulated, roll, held[1])
            assert said == told, (seed, step, roll)
            answers.add(told if not isinstance(told, tuple) else (told[3], told[4] is None))
            assert (await fake.state()).leases == (await real.state()).leases
    assert answers >= {None, True, False, "released", (False, True), (False, False)}


async def test_a_lease_that_has_run_out_is_taken_and_its_holder_may_go_on(ground: Ground) -> None:
    async with ground.ledger() as ledger:
        old = await ledger.take_lease("e", "one/a", 0.3)
        assert old is not None
        found: list[Lease] = []

        async def taken() -> bool:
            lease = await ledger.take_lease("e", "two/a", 600)
            found.extend([lease] if lease else [])
            return bool(found)

        await until(taken)
        assert (found[0].epoch, found[0].unfenced, found[0].absent_since is None) == (2, True, False)
        assert not await ledger.renew_lease(old, 600)
        await ledger.release_lease(old)
        assert await ledger.renew_lease(found[0], 600)
        assert not await ledger.renew_lease(old._replace(engine="nobody's"), 600)


async def test_of_many_at_once_one_has_it(ground: Ground) -> None:
    async with ground.ledger() as ledger:
        for epoch in (1, 2, 3):
            tries = (ledger.take_lease("e", f"h{n}/x", 600) for n in range(5))
            [lease] = [each for each in await asyncio.gather(*tries) if each is not None]
            assert lease.epoch == epoch
            await ledger.release_lease(lease)


@pytest.mark.parametrize("proven", [False, True])
async def test_a_follower_has_each_event_once_and_is_woken_by_a_commit(ground: Ground, proven: bool) -> None:
    async with ground.ledger() as ledger, ground.ledger() as other:
        await until(ledger.listener.connected.is_set)
        seen: list[int] = []

        async def follow() -> None:
            had = Had()
            if not proven:
                async for events in ledger.follow(0):
                    seen.extend(event.position for event in events)
            async for portion in ledger.follow_on(had):
                seen.extend(event.position for event in portion.events)
                had.read_to(portion.end)

        following = asyncio.create_task(follow())
        hints = ledger.listener.hints
        for _ in range(5):
            await other.submit(cmd.SetPrices(prices=PRICES, currency="EUR"), actor="test")
        await until(lambda: len(seen) == 5)
        assert seen == [1, 2, 3, 4, 5]
        await until(lambda: ledger.listener.hints > hints, what="it was told, and did not only look")
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

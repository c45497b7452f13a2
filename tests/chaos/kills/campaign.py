"""Kills at random moments, of a seed that can be given again."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from random import Random

from tests.chaos.kills.clients import KINDS, Load, a_load
from tests.chaos.kills.house import PARTS, House, Part
from tests.chaos.kills.oracle import Evidence
from tests.chaos.kills.witnesses import evidence
from tests.support.waiting import until

#: What a campaign can be given again, or for longer: the seed, how many kills, and when the last one may be.
SEED, KILLS, MINUTES = "JOBYARD_CHAOS_SEED", "JOBYARD_CHAOS_KILLS", "JOBYARD_CHAOS_KILLS_MINUTES"
CLIENTS = 5
#: So long is the calm before a kill and the time that a part is away at most.
CALM_S, AWAY_S = 1.5, 4.0
#: After each kill the load must get on within this time, without hands.
RECOVERY_S = 120.0
_AT_ONCE = 0.2


@dataclass(frozen=True)
class Kill:
    """`after_s` into the calm, and back `away_s` later. Several may happen at once."""

    parts: tuple[Part, ...]
    after_s: float
    away_s: float
    #: Whether an engine that is killed keeps its containers.
    spared: bool = True
    all_of_it: bool = False


def given_seed() -> int:
    """The seed of the environment, or a new one."""
    return int(os.environ.get(SEED) or Random().randrange(10**6))


def given_kills() -> int:
    """The number of kills of the environment, or that of a long run."""
    return int(os.environ.get(KILLS) or 300)


def planned(seed: int, count: int) -> list[Kill]:
    """So many kills: each part in its turn, in a random order, an engine with and without live-restore."""
    random = Random(seed)
    plan: list[Kill] = []
    bag: list[tuple[Part, bool]] = []
    killed = 0
    while killed < count:
        if not bag:
            bag = [*((part, True) for part in PARTS), ("engine", False)]
            random.shuffle(bag)
        part, spared = bag.pop()
        parts = [part]
        if count - killed > 2 and len(PARTS) < killed and random.random() < _AT_ONCE:
            parts += random.sample([other for other in PARTS if other != part], random.choice((1, 2)))
        plan.append(
            Kill(
                tuple(parts),
                random.uniform(0, CALM_S),
                random.choice((0.0, random.uniform(0, AWAY_S / 4), random.uniform(0, AWAY_S))),
                spared,
                random.random() < 0.3,
            )
        )
        killed += len(parts)
    return plan


def in_pairs(seed: int, haste: float) -> list[Kill]:
    """The short form: each part once and the engine twice, two at a time."""
    random = Random(seed)
    bag: list[tuple[Part, bool]] = [*((part, True) for part in PARTS), ("engine", False)]
    while True:
        random.shuffle(bag)
        pairs = list(zip(bag[::2], bag[1::2], strict=True))
        if all(one[0] != other[0] for one, other in pairs):
            break
    return [
        Kill(
            (one[0], other[0]),
            random.uniform(0, CALM_S) / haste,
            random.uniform(0, AWAY_S / 2) / haste,
            one[1] and other[1],
            random.random() < 0.3,
        )
        for one, other in pairs
    ]


async def kill(house: House, what: Kill) -> None:
    """One kill, from its moment until all parts are back. What is to be killed is there: a service that was
    just begun has no processes of the API yet, and those of one that is killed with it go first."""
    await asyncio.sleep(what.after_s)
    for part in what.parts:
        await until(partial(house.is_there, part), RECOVERY_S, what=f"there is a {part} to kill")
    house.say(f"kill {what}")
    parts = sorted(what.parts, key=PARTS.index)
    outages = [house.kill(part, spared=what.spared, all_of_it=what.all_of_it) for part in parts]
    await asyncio.sleep(what.away_s)
    await asyncio.gather(*(house.bring_back(outage) for outage in outages))
    house.say("back")


async def gets_on(load: Load, jobs: int = 1) -> None:
    """Return when so many more jobs came to their end. Raises AssertionError when nothing moves."""
    goal, loop = load.over + jobs, asyncio.get_running_loop()
    end = loop.time() + RECOVERY_S
    while load.over < goal:
        load.check()
        assert loop.time() < end, f"nothing moves: {load.faults}"
        await asyncio.sleep(0.05)


async def campaign(house: House, seed: int, plan: Sequence[Kill], clients: int = CLIENTS) -> Evidence:
    """The load, the kills, and what the witnesses say when all is over. Of every kind there is a job
    that came to its own end: what the oracle is tried with is taken from those.

    The kills are those of the plan, or as many as there is time for.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + 60 * float(os.environ.get(MINUTES) or "inf")
    async with a_load(house, seed, clients) as load:
        await gets_on(load)
        for each in plan:
            if loop.time() > end:
                break
            await kill(house, each)
            await gets_on(load)
            house.say(f"it gets on: {load.over} jobs are over")
        while load.whole < KINDS.keys():
            await gets_on(load)
        await load.rest()
        house.say("the load rests")
        found = await evidence(load)
        house.say("all witnesses are heard")
        return found


def counts(found: Evidence) -> dict[str, int]:
    """For the table at the end of the output: what was killed, and not what was to be."""
    killed: Counter[str] = Counter(outage.part for outage in found.outages if outage.killed)
    submitted = sum(1 for answer in found.answers if answer.what == "submit")
    return {"kills": killed.total(), **dict(killed), "orders": len(found.answers), "jobs": submitted}

"""`kill -9` of the API, the supervisor, Postgres, dockerd and the object store under load: nothing
acknowledged is lost, no run is started twice, nothing is left over and no minute is billed twice."""

from __future__ import annotations

import sys
from collections import Counter

import asyncpg
import pytest

from tests.chaos.kills import planted, witnesses
from tests.chaos.kills.campaign import (
    campaign,
    counts,
    gets_on,
    given_kills,
    given_seed,
    in_pairs,
    planned,
)
from tests.chaos.kills.clients import Load, Stuck, a_load
from tests.chaos.kills.house import House, a_house
from tests.chaos.kills.oracle import RunOf, faults
from tests.support.chaos import Chaos
from tests.support.waiting import until

#: What no client should be answered, and a planted client is, by the last question that is asked.
LAST = "planted: the last question was answered 500"
bill = witnesses._bill
HASTY = (sys.executable, "-m", "tests.chaos.kills.hasty", "up")


async def test_random_kills_under_load(chaos: Chaos, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the tests of the test, in the same house: what the oracle does not see in evidence with bugs, and a
    service that answers too early."""
    seed = given_seed()
    plan = planned(seed, given_kills()) if chaos.long else in_pairs(seed, haste=3)
    monkeypatch.setattr(witnesses, "_bill", a_last_question_that_goes_wrong)
    async with a_house() as house:
        try:
            found = await campaign(house, seed, plan, clients=chaos.times(short=3, long=5))
            wrong = faults(found)
            assert LAST in wrong, "the test of the test: what the last question is answered is not looked at"
            wrong.remove(LAST)
            told = Counter(fault.partition(":")[0] for fault in wrong)
            losses = {name: told[name] for name in ("lost", "twice", "orphan", "billed twice")}
            chaos.told("kill -9", seed=seed, **counts(found), **losses)
            assert not wrong, f"seed {seed}: {wrong}"
            assert not planted.unseen(found), "the test of the test: these bugs would not be seen"
        except BaseException:
            print(f"seed {seed}: what was said is kept in {house.keep('kills')}")
            raise
        await a_service_that_answers_before_the_commit_is_durable_is_caught(house)


async def a_last_question_that_goes_wrong(load: Load) -> list[RunOf]:
    load.faults.append(LAST)
    return await bill(load)


async def a_service_that_answers_before_the_commit_is_durable_is_caught(house: House) -> None:
    await house.runs(HASTY, api_processes=1)
    await lazy_log(house)
    async with a_load(house, seed=1, clients=2, name="hasty") as load:
        await until(lambda: load.journal.answers(), what="an order is acknowledged")
        outage = house.kill("postgres")
        await house.bring_back(outage)
        with pytest.raises(Stuck):
            await gets_on(load, jobs=100)
    assert any("was acknowledged, and read as 4" in fault for fault in load.faults), load.faults


async def lazy_log(house: House) -> None:
    """What is not waited for is written late; all that was written so far is on the disk."""
    connection = await asyncpg.connect(house.database_url)
    try:
        await connection.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
        await connection.execute("SELECT pg_reload_conf()")
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()

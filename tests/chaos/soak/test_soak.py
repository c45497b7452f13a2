"""Mixed load for an hour, a fault each minute: memory, descriptors, tasks and connections stay flat, and
nothing is lost. `JOBYARD_CHAOS_SOAK_MINUTES` makes it longer or shorter; without `--chaos` it takes
seconds, in which nothing can be seen to grow."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import aiohttp
import asyncpg

from tests.chaos.kills.campaign import gets_on, given_seed
from tests.chaos.kills.clients import Load, a_load
from tests.chaos.kills.house import House, Part, a_house
from tests.chaos.kills.oracle import faults
from tests.chaos.kills.witnesses import evidence
from tests.chaos.soak.sampling import Sampler, grown
from tests.support.chaos import Chaos

MINUTES = "JOBYARD_CHAOS_SOAK_MINUTES"
#: The service itself lives on: what it takes is what is measured. It has the API and the supervisor in one.
FAULTS: tuple[Part, ...] = ("postgres", "engine", "store")
CLIENTS = 4


#: What asyncpg raises where Postgres is killed at any moment of a call.
_AWAY = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)


async def tasks_of(load: Load) -> int | None:
    """Of the service, as its metrics say; None while it does not answer."""
    headers = {"Authorization": f"Bearer {load.house.told['token']}"}
    try:
        async with load.http.get(f"{load.house.url}/metrics", headers=headers) as found:
            for line in (await found.text()).splitlines():
                if line.startswith("jobyard_tasks "):
                    return int(float(line.split()[1]))
    except (aiohttp.ClientError, OSError, TimeoutError):
        return None
    return None


async def connections_of(house: House) -> int | None:
    """That Postgres has with the service; None while it does not answer."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'jobyard'"
    try:
        connection = await asyncpg.connect(house.database_url, timeout=5)
        try:
            found: int = await connection.fetchval(query)
        finally:
            await connection.close()
    except (
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,
        OSError,
        TimeoutError,
    ):
        return None
    return found


@asynccontextmanager
async def sampled(load: Load, every_s: float) -> AsyncIterator[Sampler]:
    pid = load.house.main
    assert pid is not None
    sampler = Sampler(pid, lambda: tasks_of(load), lambda: connections_of(load.house))
    watching = asyncio.create_task(sampler.watch(every_s), name="sampler")
    try:
        yield sampler
        assert not watching.done(), watching.exception()
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def soak(load: Load, random: Random, seconds: float, every_s: float) -> int:
    """A fault each `every_s` for so long; how many there were."""
    loop = asyncio.get_running_loop()
    end, count = loop.time() + seconds, 0
    parts: list[Part] = []
    while loop.time() < end:
        begins = loop.time()
        parts = parts or random.sample(FAULTS, len(FAULTS))
        await asyncio.sleep(random.uniform(0, every_s / 2))
        outage = load.house.kill(parts.pop())
        await asyncio.sleep(random.uniform(0, every_s / 20))
        await load.house.bring_back(outage)
        await gets_on(load)
        count += outage.killed
        await asyncio.sleep(max(0.0, begins + every_s - loop.time()))
    return count


async def test_a_soak(chaos: Chaos) -> None:
    seed = given_seed()
    minutes = float(os.environ.get(MINUTES, 60))
    seconds, every_s, look_s = (minutes * 60, 60.0, 2.0) if chaos.long else (4.0, 4.0, 0.2)
    async with a_house(api_processes=1) as house:
        try:
            async with a_load(house, seed, CLIENTS) as load:
                async with sampled(load, look_s) as sampler:
                    killed = await soak(load, Random(seed), seconds, every_s)
                await load.rest()
                found = await evidence(load)
            wrong = faults(found) + (grown(sampler.samples, load.over) if chaos.long else [])
            assert not wrong, f"seed {seed}: {wrong}"
        except BaseException:
            print(f"seed {seed}: what was said is kept in {house.keep('soak')}")
            raise
    told: dict[str, Any] = {"seed": seed, "faults": killed, "jobs": load.over, **sampler.told()}
    chaos.told("soak", **told, lost=0)

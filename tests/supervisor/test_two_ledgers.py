"""Two ledgers, each with a service of its own, and one engine: staging and production on one machine."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

from service.domain.states import State
from service.ledger.ledger import Ledger
from service.local import first_run
from service.supervisor.names import RunId, container_name
from tests.supervisor.lab import RUNS_ON
from tests.supervisor.world import MASTER, World, database, fake_engine, settings_of


async def test_both_may_have_a_job_of_one_id(template_database: str, tmp_path: Path) -> None:
    """As the same Idempotency-Key in projects of one name makes them. Each has its own container."""
    engine, job = fake_engine(), uuid4()
    async with AsyncExitStack() as stack:
        worlds = []
        for name in ("staging", "production"):
            (tmp_path / name).mkdir()
            settings = settings_of(tmp_path / name)
            url = await stack.enter_async_context(database(template_database))
            ledger = await stack.enter_async_context(Ledger.open(url, MASTER))
            await first_run.prepare(ledger, settings, None)
            world = World(url, ledger, settings, engine)
            await stack.enter_async_context(world.supervised())
            await world.submit(RUNS_ON, job=job)
            await world.reach(job, State.RUNNING)
            worlds.append(world)
        for world in worlds:
            await world.kill(job)
            assert (await world.end(job)).state is State.INTERRUPTED
    names = [name for call, name in engine.calls if call == "create"]
    assert len(names) == len(set(names)) == 2


def test_a_containers_name_is_one_that_docker_and_its_networks_take() -> None:
    """A name in a network may have 63 letters."""
    ledger, run = uuid4(), RunId(uuid4(), 10**9)
    names = [container_name(ledger, run), *(container_name(ledger, run, attempt) for attempt in (2, 5))]
    assert len(set(names)) == 3
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9-]{1,62}", name) for name in names)
    assert all(str(run.job) in name and str(ledger)[:8] in name for name in names)

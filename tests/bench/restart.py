"""How soon a supervisor that starts again has planned for 10,000 live jobs, and what waiting with them costs.

The jobs ask for a GPU that the node has not, so they all wait, and each was told why by a supervisor before.
Measured is a process of its own, on a fake engine: from its first connection to the ledger until its first
plan is carried out, and its processor time while nothing happens.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import time
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import uvloop

from service.config import read_settings
from service.domain import commands as cmd
from service.domain.asked import JobSpecAsked, ResourcesAsked
from service.domain.flavors import DEFAULT_CATALOGUE
from service.domain.reading import read_spec
from service.ledger.ledger import Ledger
from service.memory import collect_seldom
from service.supervisor.logs.keeper import LogKeeper
from service.supervisor.shift import Shift
from service.supervisor.supervisor import Supervisor
from service.telemetry import set_up_logging
from service.vault import MasterKey, new_key
from tests.bench import yard
from tests.bench.measure import Figure, quick
from tests.support.engine.fake import FakeEngine

ROUNDS = 3
IDLE_S = 10.0


async def bench() -> AsyncGenerator[Figure, None]:
    jobs = 1000 if quick() else 10_000
    with TemporaryDirectory(prefix="jobyard-bench-") as folder:
        async with yard.database() as url:
            async with yard.ledger(url) as ledger:
                await asyncio.gather(*(_submit(ledger) for _ in range(jobs)))
            first, _ = await _supervised(url, folder, jobs)
            times, shares = zip(*[await _supervised(url, folder, jobs) for _ in range(ROUNDS)], strict=True)
    name = f"{jobs:,} live jobs"
    yield Figure(f"{name}: first plan, each job told why it waits", "s", first)
    yield Figure(f"{name}: planned again after a restart", "s", statistics.median(times), target=2.0)
    yield Figure(f"{name}: idle, of a core", "%", statistics.median(shares), target=3.0)


async def _submit(ledger: Ledger) -> None:
    job = uuid4()
    asked = JobSpecAsked(image="busybox", resources=ResourcesAsked(gpu=1), command=["true"])
    spec = read_spec(asked, job_id=str(job), catalogue=DEFAULT_CATALOGUE, seal=yard.no_secrets)
    command = cmd.SubmitJob(project=yard.PROJECT, job=job, spec=spec, user="bench")
    await ledger.submit(command, actor="bench")


async def _supervised(url: str, folder: str, jobs: int) -> tuple[float, float]:
    """Seconds until the first plan is carried out, and the share of a core in % while idle."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_run, args=(url, folder, jobs, there), daemon=True)
    process.start()
    try:
        found: tuple[float, float] = await asyncio.to_thread(here.recv)
        return found
    finally:
        process.terminate()
        await asyncio.to_thread(process.join)


def _run(url: str, folder: str, jobs: int, answer: Connection) -> None:
    set_up_logging("error")
    collect_seldom()
    answer.send(uvloop.run(_measured(url, folder, jobs)))


async def _measured(url: str, folder: str, jobs: int) -> tuple[float, float]:
    planned = asyncio.Event()
    settings = read_settings({}, state_dir=Path(folder))

    work = Shift.run_once

    async def told(shift: Shift) -> None:
        await work(shift)
        looked_after = len(shift._yard.watch.jobs)
        if looked_after != jobs:
            raise RuntimeError(f"{looked_after} jobs are looked after, not {jobs}")
        planned.set()

    Shift.run_once = told  # type: ignore[method-assign,assignment]
    began = time.perf_counter()
    async with Ledger.open(url, MasterKey(new_key())) as ledger:
        engine = FakeEngine(lambda: datetime.now(UTC))
        supervisor = Supervisor(ledger, engine, LogKeeper(engine, settings.logs_dir), settings)
        running = asyncio.create_task(supervisor.run())
        await planned.wait()
        took = time.perf_counter() - began
        await asyncio.sleep(2.0)  # what the plan set off is over
        used, since = time.process_time(), time.perf_counter()
        await asyncio.sleep(IDLE_S)
        share = 100 * (time.process_time() - used) / (time.perf_counter() - since)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return took, share

"""How long a page of 50 jobs takes, against one indexed SELECT of as many rows, with few jobs and with many.

Bare: the rows alone, by the index of the list, over one connection. Ours: `GET /v1/job` with `cursor`, the
first page and one from the middle of the list, over HTTP, one request after the other. A page by number says
how many jobs there are, for which they are counted: its time is shown beside it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import asyncpg
import msgspec

from service.api import cursors
from service.api.reads import After
from service.domain.events import Event, JobSubmitted
from service.domain.evolve import evolve
from service.domain.states import State
from service.ledger import database as db
from tests.bench import yard
from tests.bench.load import Load, generator, request
from tests.bench.measure import Figure, Measure, quick, summed_up
from tests.bench.requests import jobyard, server

ROUNDS = 5
ASKED = 200
_BARE = """SELECT row FROM jobyard.fold_status
WHERE row ->> 'project' = $1 AND NOT coalesce((row ->> 'deleted')::boolean, false)
  AND (row ->> 'createdPosition')::bigint < $2
ORDER BY (row ->> 'createdPosition')::bigint DESC LIMIT 50"""
#: Jobs that were never submitted: this bench reads rows, and only rows are made for it.
_FILL = """INSERT INTO jobyard.folds (fold, key, position, row)
SELECT 'status', id, number, $3::jsonb || jsonb_build_object(
    'id', id, 'position', number, 'createdPosition', number, 'queuedPosition', number)
FROM (SELECT gen_random_uuid()::text AS id, number
      FROM generate_series($1::bigint, $2::bigint) AS number) AS made"""


async def bench() -> AsyncGenerator[Measure | Figure, None]:
    many = 50_000 if quick() else 1_000_000
    slowest: dict[str, list[float]] = {}
    with TemporaryDirectory(prefix="jobyard-bench-") as folder:
        async with (
            yard.database() as url,
            server(jobyard, url, folder) as (address, token),
            generator() as load,
        ):
            connection = await db.connect(url, admin=True)
            try:
                made = 0
                for jobs in (10_000, many):
                    await _fill(connection, made, jobs)
                    made = jobs
                    bench = _Lists(connection, load, address, token, jobs)
                    async for measure in bench.measures(slowest):
                        yield measure
            finally:
                await db.close(connection)
    for name, (few, lots) in slowest.items():
        yield Figure(f"{name}: p99 of {many:,} to that of 10,000 jobs", "times", lots / few, target=2.0)


async def _fill(connection: asyncpg.Connection, made: int, jobs: int) -> None:
    job = uuid4()
    spec = yard.specification(job)
    now = await connection.fetchval("SELECT clock_timestamp()")
    event = Event(
        position=1,
        project=yard.PROJECT,
        job=job,
        run=1,
        body=JobSubmitted(source=None, target=State.QUEUED, kind="cpu", units=1, spec=spec, user="bench"),
        occurred_at=now,
        recorded_at=now,
        actor="bench",
        command_id=job,
    )
    row = msgspec.json.encode(evolve(None, event)).decode()
    step = 50_000
    for first in range(made + 1, jobs + 1, step):
        await connection.execute(_FILL, first, min(first + step - 1, jobs), row, timeout=600)
    await connection.execute("VACUUM ANALYZE jobyard.fold_status", timeout=600)


class _Lists:
    """One number of jobs."""

    def __init__(
        self, connection: asyncpg.Connection, load: Load, address: str, token: str, jobs: int
    ) -> None:
        self._connection = connection
        self._load = load
        self._address = address
        self._token = token
        self._jobs = jobs

    async def measures(self, slowest: dict[str, list[float]]) -> AsyncIterator[Measure | Figure]:
        middle = self._jobs // 2
        cursor = cursors.write(("createdAt", "desc"), After(middle, ""))
        for name, position, query in (
            ("list, first page", self._jobs + 1, "cursor="),
            ("list, a cursor page", middle, f"cursor={cursor}"),
        ):
            await self._bare(position), await self._ours(query)
            pairs = [(await self._bare(position), await self._ours(query)) for _ in range(ROUNDS)]
            measure = summed_up(f"{name} of {self._jobs:,} jobs: p99", "ms", pairs, target=4.0, at_most=True)
            slowest.setdefault(name, []).append(measure.ours)
            yield measure
        counted = await self._ours("page=1", 5)
        yield Figure(f"list, page 1 of {self._jobs:,} jobs, counted: slowest of 5", "ms", counted)

    async def _bare(self, position: int) -> float:
        statement: Any = await self._connection.prepare(_BARE)
        times = []
        for _ in range(ASKED):
            began = time.perf_counter()
            await statement.fetch(yard.PROJECT, position)
            times.append((time.perf_counter() - began) * 1000)
        return sorted(times)[int(ASKED * 0.99)]

    async def _ours(self, query: str, count: int = ASKED) -> float:
        asked = request("GET", f"/v1/job?size=50&{query}", self._token)
        answered = await self._load.ask(self._address, [asked], count, connections=1)
        return answered.percentile(0.99)

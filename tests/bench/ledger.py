"""How fast commands become durable events, against a bare insert of as many rows.

Bare: one `unnest` insert of the rows and a commit, over one connection. Ours: as many callers at once, a
command each, decided, hashed and folded: 1,000 of them, and 100. synchronous_commit is on for both.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from uuid import UUID, uuid4

import asyncpg

from service.domain import commands as cmd
from service.domain.events import JobSubmitted, encode_body
from service.domain.states import State
from service.ledger import database as db
from service.ledger.ledger import Ledger
from tests.bench import yard
from tests.bench.measure import Measure, compare

_TABLE = "CREATE TABLE public.bare (position bigint PRIMARY KEY, job uuid, type text, data json)"
_INSERT = "INSERT INTO public.bare SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::text[], $4::json[])"
_ROUNDS = 9


async def bench() -> AsyncGenerator[Measure, None]:
    async with yard.database() as url, yard.ledger(url) as ledger:
        connection = await db.connect(url, admin=True)
        try:
            await connection.execute(_TABLE)
            bare = _Bare(connection)
            yield await compare(
                "ledger: 1,000 callers, one event each",
                "events",
                lambda: bare.rate(1000, 1),
                lambda: _ours(ledger, 1000, 1),
                _ROUNDS,
                target=0.30,
            )
            yield await compare(
                "ledger: batches of 100 events",
                "events",
                lambda: bare.rate(100, 10),
                lambda: _ours(ledger, 100, 10),
                _ROUNDS,
                target=0.60,
            )
        finally:
            await db.close(connection)


class _Bare:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._written = 0
        spec = yard.specification(uuid4())
        submitted = JobSubmitted(
            source=None, target=State.QUEUED, kind="cpu", units=1, spec=spec, user="bench"
        )
        self._body = encode_body(submitted).decode()

    async def rate(self, rows: int, times: int) -> float:
        return await _timed(rows, times, self._insert)

    async def _insert(self, jobs: list[UUID]) -> None:
        rows = len(jobs)
        positions = list(range(self._written, self._written + rows))
        await self._connection.execute(_INSERT, positions, jobs, ["JobSubmitted"] * rows, [self._body] * rows)
        self._written += rows


async def _ours(ledger: Ledger, callers: int, times: int) -> float:
    async def submit(jobs: list[UUID]) -> None:
        calls = (
            ledger.submit(
                cmd.SubmitJob(project=yard.PROJECT, job=job, spec=specs[job], user="bench"), actor="bench"
            )
            for job in jobs
        )
        await asyncio.gather(*calls)

    specs = yard.Specifications()
    return await _timed(callers, times, submit, specs.prepare)


async def _timed(
    rows: int,
    times: int,
    work: Callable[[list[UUID]], Awaitable[None]],
    prepare: Callable[[list[UUID]], None] | None = None,
) -> float:
    """Rows a second; what they are made of is made before."""
    batches = [[uuid4() for _ in range(rows)] for _ in range(times)]
    for batch in batches:
        if prepare is not None:
            prepare(batch)
    began = time.perf_counter()
    for batch in batches:
        await work(batch)
    return rows * times / (time.perf_counter() - began)

"""How fast commands become durable events, against a bare insert of as many rows.

Bare: one `unnest` insert of 1,000 rows and a commit, over one connection. Ours: 1,000 callers at once, a
command each, decided, hashed and folded. synchronous_commit is on for both.
"""

from __future__ import annotations

import asyncio
import time
from uuid import uuid4

from service.domain import commands as cmd
from service.domain.events import JobSubmitted, encode_body
from service.domain.states import State
from service.ledger import database as db
from tests.bench import yard
from tests.bench.measure import Measure, compare

CALLERS = 1000
_TABLE = "CREATE TABLE public.bare (position bigint PRIMARY KEY, job uuid, type text, data json)"
_INSERT = "INSERT INTO public.bare SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::text[], $4::json[])"


async def bench() -> list[Measure]:
    async with yard.database() as url, yard.ledger(url) as ledger:
        connection = await db.connect(url, admin=True)
        await connection.execute(_TABLE)
        spec = yard.specification(uuid4())
        submitted = JobSubmitted(
            source=None, target=State.QUEUED, kind="cpu", units=1, spec=spec, user="bench"
        )
        body = encode_body(submitted).decode()
        written = 0

        async def bare() -> float:
            nonlocal written
            began = time.perf_counter()
            positions = list(range(written, written + CALLERS))
            await connection.execute(
                _INSERT, positions, [uuid4() for _ in positions], ["JobSubmitted"] * CALLERS, [body] * CALLERS
            )
            written += CALLERS
            return CALLERS / (time.perf_counter() - began)

        async def ours() -> float:
            jobs = [uuid4() for _ in range(CALLERS)]
            specs = [yard.specification(job) for job in jobs]
            began = time.perf_counter()
            await asyncio.gather(
                *(
                    ledger.submit(
                        cmd.SubmitJob(project=yard.PROJECT, job=job, spec=each, user="bench"), actor="bench"
                    )
                    for job, each in zip(jobs, specs, strict=True)
                )
            )
            return CALLERS / (time.perf_counter() - began)

        try:
            return [await compare("ledger: 1,000 callers, one event each", "events", bare, ours)]
        finally:
            await db.close(connection)

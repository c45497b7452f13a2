"""How fast a long ledger is folded again, against a cursor that reads its events and does nothing with them.

Bare: asyncpg's cursor over every column of the events, 1,000 at a time. Ours: `jobyard projections rebuild
billing`, shadow, comparison and swap included; and a replay of the project's bills under another policy, as
`POST /v1/billing/replay` makes it, each run beside its live bill.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from functools import partial

import asyncpg

from service.api.billing import Replayed
from service.ledger import bills, rebuild
from service.ledger import database as db
from sql import queries
from tests.bench import past, yard
from tests.bench.measure import Measure, compare, quick

EVENTS = 1_000_000
_SQL = queries("ledger")


async def bench() -> AsyncGenerator[Measure, None]:
    events = 20_000 if quick() else EVENTS
    async with yard.database() as url:
        async with yard.ledger(url):
            pass
        last = await past.made(url, events)
        connection = await db.connect(url, admin=True)
        try:
            async with db.pool(url, most=2) as pool:
                async for measure in _compared(connection, pool, last):
                    yield measure
        finally:
            await db.close(connection)


async def _compared(connection: asyncpg.Connection, pool: asyncpg.Pool, last: int) -> AsyncIterator[Measure]:
    async def timed(work: Callable[[], Awaitable[object]]) -> float:
        began = time.perf_counter()
        await work()
        return last / (time.perf_counter() - began)

    async def read() -> None:
        async with connection.transaction():
            async for _ in connection.cursor(_SQL.read_after, 0, last, last, prefetch=1000, timeout=900):
                pass

    async def rebuilt() -> None:
        await rebuild.rebuild(connection, ["billing"], _silent)

    async def replayed() -> None:
        found = Replayed("2023-12", None)
        async for page in bills.replayed(pool, yard.PROJECT, last):
            found.take(page, differing=True)
        if not found.runs:
            raise RuntimeError("the replay found no runs")

    size = f"{last:,} events"
    bare = partial(timed, read)
    for name, ours in (("rebuild billing", rebuilt), ("replay bills", replayed)):
        yield await compare(f"{name}, {size}", "events", bare, partial(timed, ours), target=0.25)


def _silent(_text: str) -> None: ...

"""Rows of read models as they were: those that nothing has touched since stand as they are, the others are
folded again from their own events, by the very fold that made them.

A row's `position` is its last event's, and events never change. So a row with position <= P is the row of P,
whenever it is looked at; where rows and events of several statements must fit together, `snapshot` holds
them at one moment.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg

from projections.catalogue import FOLDS
from projections.quota import CONCERNED
from service.domain.events import BODIES
from service.domain.job import Job
from service.domain.quota import Quota
from service.ledger.chain import event_of
from service.ledger.database import translated
from sql import queries

_SQL = queries("asof")
#: As many jobs' events are asked for at once, and as many records taken at a time.
_JOBS = 500
_RECORDS = 500
_QUOTA = [name for name, body in BODIES.items() if issubclass(body, CONCERNED)]


@asynccontextmanager
async def snapshot(pool: asyncpg.Pool) -> AsyncIterator[Any]:
    """A connection that sees the ledger as it is now until the context ends, whatever is appended."""
    with translated():
        async with (
            pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield connection


async def job(pool: asyncpg.Pool, job_id: UUID, position: int) -> Job | None:
    """A job right after the event at a position, deleted or not; None when it did not exist yet."""
    async with snapshot(pool) as connection:
        found: Job | None = await row(connection, "status", str(job_id), position)
    return found


async def quota(pool: asyncpg.Pool, project: str, position: int) -> Quota | None:
    """A project's quota right after the event at a position; None when it did not exist yet."""
    async with snapshot(pool) as connection:
        found: Quota | None = await row(connection, "quota", project, position)
    return found


async def row(connection: Any, fold: str, key: str, position: int) -> Any:
    """One row of `status`, `billing` or `quota` as of a position, or None. `connection` is a `snapshot`'s."""
    record = await connection.fetchrow(_SQL.row, fold, key)
    if record is None:
        return None
    if record["position"] <= position:
        return FOLDS[fold].decoder.decode(record["row"])
    return (await refolded(connection, fold, [key], position)).get(key)


async def refolded(connection: Any, fold: str, keys: Iterable[str], position: int) -> dict[str, Any]:
    """Rows folded again up to a position, by key; those that did not exist yet are left out."""
    wanted = set(keys)
    found: dict[str, Any] = {}
    key_of, evolve = FOLDS[fold].key, FOLDS[fold].evolve
    async for record in _EVENTS[fold](connection, wanted, position):
        event = event_of(record)
        key = key_of(event)
        if key in wanted:
            found[key] = evolve(found.get(key), event)
    return found


async def _of_jobs(connection: Any, keys: Iterable[str], position: int) -> AsyncIterator[Any]:
    """All events of the jobs that the keys begin with."""
    jobs = sorted({UUID(key.partition("/")[0]) for key in keys})
    for first in range(0, len(jobs), _JOBS):
        some = jobs[first : first + _JOBS]
        async for record in connection.cursor(_SQL.events_of_jobs, some, position, prefetch=_RECORDS):
            yield record


async def _of_projects(connection: Any, keys: Iterable[str], position: int) -> AsyncIterator[Any]:
    """Those events of the projects that concern a quota."""
    for project in keys:
        asked = (project, position, _QUOTA)
        async for record in connection.cursor(_SQL.events_of_project, *asked, prefetch=_RECORDS):
            yield record


_EVENTS: dict[str, Callable[..., AsyncIterator[Any]]] = {
    "status": _of_jobs,
    "billing": _of_jobs,
    "quota": _of_projects,
}

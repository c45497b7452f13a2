"""Reading the ledger in the order of positions: all of it, one job's part, or one project's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg

from service.domain.events import Event
from service.ledger.chain import event_of
from service.ledger.database import translated
from sql import queries

_SQL = queries("ledger")
PAGE = 1000
END = 2**62


class Head(NamedTuple):
    """Where the ledger ends: the position and hash of its last event (0 and zeros when empty)."""

    ledger_id: UUID
    epoch: int
    position: int
    hash: bytes


async def head(pool: asyncpg.Pool) -> Head:
    with translated():
        record: Any = await pool.fetchrow(_SQL.head)
    return Head(UUID(int=record["ledger_id"].int), record["epoch"], record["position"], record["hash"])


async def page(
    source: Any,
    after: int,
    *,
    upto: int = END,
    limit: int = PAGE,
    job: UUID | None = None,
    project: str | None = None,
) -> list[Event]:
    """At most `limit` events with after < position <= upto; of one job or one project when given.

    `source` is a pool or a connection. There are no holes to wait for: positions commit in order.
    """
    with translated():
        if job is not None:
            records = await source.fetch(_SQL.read_job, after, upto, limit, job)
        elif project is not None:
            records = await source.fetch(_SQL.read_project, after, upto, limit, project)
        else:
            records = await source.fetch(_SQL.read_after, after, upto, limit)
    return [event_of(record) for record in records]


async def through(source: Any, after: int = 0, *, upto: int = END) -> AsyncIterator[list[Event]]:
    """Page after page to `upto`, or to the end that the ledger has when it is reached."""
    while events := await page(source, after, upto=upto):
        yield events
        after = events[-1].position

"""What happened to a job from one moment to another: who did what, without what the events hold."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from service.ledger.database import translated
from sql import queries

_SQL = queries("asof")


class Envelope(NamedTuple):
    """An event without its body."""

    position: int
    type: str
    run: int | None
    occurred_at: datetime
    recorded_at: datetime
    actor: str
    request_id: str | None


async def envelopes(
    pool: asyncpg.Pool, job: UUID, after: int, upto: int, *, most: int
) -> tuple[list[Envelope], int]:
    """The first `most` events of a job with after < position <= upto, and how many more there are."""
    with translated():
        records = await pool.fetch(_SQL.envelopes_of_job, job, after, upto, most)
    found = [Envelope(*tuple(record)[:-1]) for record in records]
    return found, records[0]["total"] - len(found) if records else 0

"""Moments of the ledger: a position, or a time and the last event that was recorded by then.

A moment that was answered once stays what it is. A time counts an event in when its `recorded_at` is not
later; that never goes back as positions go on, and an append takes it under the head's lock. So of a time
that is not past the head's, every event is there. For a later one, up to now, the head is looked at under its
lock: an append that is under way has taken its time already, and is waited for.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

import asyncpg

from service.domain.times import in_utc
from service.errors import Invalid, LedgerCorrupt
from service.ledger.database import translated
from sql import queries

_SQL = queries("asof")

#: A moment as somebody asks for it: a position, or a time with its zone.
Asked = int | datetime


class Moment(NamedTuple):
    """The state right after the event at `position` (0: before the first one); `at` is what "now" is then:
    the time that was asked for, or when that event was recorded."""

    position: int
    at: datetime


async def moment_of(pool: asyncpg.Pool, asked: Asked, field: str = "asOf") -> Moment:
    """The moment that is asked for. Raises `Invalid`, which names `field`, for what has not come yet."""
    with translated():
        head: Any = await pool.fetchrow(_SQL.head)
        if isinstance(asked, datetime):
            return await _at(pool, in_utc(asked), head, field)
        if not 0 <= asked <= head["position"]:
            raise Invalid(field, asked, f"the ledger's last position is {head['position']}")
        recorded = await pool.fetchval(_SQL.recorded_at, asked)
    return Moment(asked, recorded or head["recorded_at"])


async def latest(pool: asyncpg.Pool) -> Moment:
    """The moment of now."""
    with translated():
        head: Any = await pool.fetchrow(_SQL.head)
    return Moment(head["position"], head["now"])


async def _at(pool: asyncpg.Pool, time: datetime, head: Any, field: str) -> Moment:
    if time > head["now"]:
        now = head["now"].isoformat(timespec="seconds").replace("+00:00", "Z")
        raise Invalid(field, time.isoformat().replace("+00:00", "Z"), f"it is {now} now; what comes is open")
    if time >= head["recorded_at"]:
        await _settle(pool)
    return Moment(await position_at(pool, time), time)


async def position_at(source: Any, time: datetime) -> int:
    """The position of the last event recorded at a time or before; 0 when there is none."""
    with translated():
        found: int | None = await source.fetchval(_SQL.position_at, time)
    if found is None:
        raise LedgerCorrupt(0, "an event is missing; `jobyard audit verify` names it")
    return found


async def _settle(pool: asyncpg.Pool) -> None:
    """Wait until no append is under way: whoever appends from then on records a later time.

    The server itself lets go of the lock: who waits for us to say so would wait as long as this process is
    busy, or stopped, and nobody could write.
    """
    await pool.execute(_SQL.lock_out)

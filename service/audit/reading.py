"""Reading the ledger as an auditor does: by who, what, when and which request, and what caused it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from service.domain.causes import LEADING_NOWHERE, TELLING, Step, step_of
from service.domain.checkpoint import NotACheckpoint, read_note
from service.domain.events import BODIES, Event, decode_body
from service.domain.selectors import Selector
from service.ledger.chain import event_of, uuid_of
from service.ledger.database import translated
from service.ledger.read import END, MOST_BYTES
from sql import queries

_SQL = queries("audit")


class Wanted(NamedTuple):
    """Which events: all that are named must hold. `yard`: those of no project; `upto` is among them."""

    project: str | None = None
    yard: bool = False
    job: UUID | None = None
    actor: str | None = None
    types: tuple[str, ...] = ()
    request_id: str | None = None
    command_id: UUID | None = None
    selector: Selector | None = None
    after: int = 0
    upto: int = END

    @property
    def everything(self) -> bool:
        """Whether every event between the two positions is meant."""
        return self == Wanted(after=self.after, upto=self.upto)

    def arguments(self, limit: int, most_bytes: int) -> tuple[Any, ...]:
        """As the statements take them."""
        terms = None if self.selector is None else msgspec.json.encode(self.selector.terms).decode()
        return (
            *(self.project, self.yard, self.job, self.actor, list(self.types) or None),
            *(self.request_id, self.command_id, terms, self.after, self.upto, limit, most_bytes),
        )


class Page(NamedTuple):
    """Some of the events that are wanted, and whether there are more."""

    events: list[Event]
    more: bool


async def page(
    pool: asyncpg.Pool, wanted: Wanted, size: int, *, down: bool = False, most_bytes: int = MOST_BYTES
) -> Page:
    """The first events, or the last ones (`down`) with the last first: `size` of them at most, and fewer when
    they are large, as an event may be hundreds of KiB."""
    statement = _SQL.log_down if down else _SQL.log_up
    records = await _planned(pool, statement, *wanted.arguments(size + 1, most_bytes))
    events = [event_of(record) for record in records[:size]]
    return Page(events, bool(records) and records[0]["looked"] > len(events))


async def rows(pool: asyncpg.Pool, wanted: Wanted, size: int = 100) -> AsyncIterator[Any]:
    """Every row, in order, with the hash of the event before it."""
    while records := await _planned(pool, _SQL.to_export, *wanted.arguments(size, MOST_BYTES)):
        for record in records:
            yield record
        wanted = wanted._replace(after=records[-1]["position"])


async def before(pool: asyncpg.Pool, at: datetime, *, including: bool = False) -> int:
    """The position of the last event recorded before a time, or at it (`including`); 0 for none."""
    with translated():
        found: int | None = await pool.fetchval(_SQL.before, at, including)
    return found or 0


async def leading_to(pool: asyncpg.Pool, events: Sequence[Event]) -> list[Step]:
    """These events of jobs, and all before them of the same jobs that something may follow from, in order: as
    much of each as tells what caused what."""
    jobs = {event.job for event in events if event.job is not None}
    if not jobs:
        return []
    positions = [event.position for event in events]
    with translated():
        records = await pool.fetch(
            _SQL.of_jobs, list(jobs), max(positions), list(LEADING_NOWHERE), positions, list(TELLING)
        )
    return [_step(record) for record in records]


def _step(record: Any) -> Step:
    kind, data = record["type"], record["data"]
    body = None if data is None else decode_body(kind, data)
    return step_of(record["position"], uuid_of(record["job"]), BODIES[kind], record["request_id"], body)


async def token_names(pool: asyncpg.Pool, tokens: Iterable[str]) -> dict[str, str]:
    """The names of tokens, revoked or not, by their ids."""
    with translated():
        records = await pool.fetch(_SQL.token_names, list(tokens))
    return {record["key"]: record["name"] for record in records}


async def newest_note(source: Any) -> str | None:
    """The newest checkpoint's note; None before the first. `source` is a pool or a connection."""
    with translated():
        record: Any = await source.fetchrow(_SQL.newest_checkpoint)
    return None if record is None else record["note"]


async def newest_size(source: Any) -> int:
    """The size of the newest checkpoint that the database knows of; 0 for none."""
    with translated():
        record: Any = await source.fetchrow(_SQL.newest_checkpoint)
    return 0 if record is None else record["size"]


class Standing(NamedTuple):
    """The size of the newest checkpoint that the database knows of, and whether the ledger extends it."""

    size: int
    holds: bool


async def standing(pool: asyncpg.Pool) -> Standing:
    note = await newest_note(pool)
    if note is None:
        return Standing(0, True)
    try:
        found = read_note(note).checkpoint
    except NotACheckpoint:
        return Standing(0, False)
    with translated():
        return Standing(found.size, await pool.fetchval(_SQL.hash_at, found.size) == found.chain)


async def _planned(pool: asyncpg.Pool, statement: str, *arguments: Any) -> list[Any]:
    with translated():
        async with pool.acquire() as connection, connection.transaction(readonly=True):
            await connection.execute(_SQL.custom_plans)
            return await connection.fetch(statement, *arguments)

"""Reading the ledger in the order of positions: all of it, one job's or project's part, what is wanted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg

from service.domain.events import BODIES, Event, Move
from service.domain.filters import EventFilter
from service.ledger.chain import event_of, events_from
from service.ledger.database import translated
from service.ledger.labels import Labelled, labels_at
from sql import queries

_SQL = queries("ledger")
PAGE = 1000
END = 2**62
#: As many positions as one look for what a filter wants goes over at most, however few it wants.
SPAN = 50_000
#: As many bytes of events' bodies as one look or portion brings at most, beside one event that may be larger.
MOST_BYTES = 4 * 1024**2
_MOVES = frozenset(name for name, body in BODIES.items() if issubclass(body, Move))


class Head(NamedTuple):
    """Where the ledger ends: the position and hash of its last event (0 and zeros when empty)."""

    ledger_id: UUID
    epoch: int
    position: int
    hash: bytes

    @property
    def mark(self) -> Mark:
        return Mark(self.position, self.hash)


class Mark(NamedTuple):
    """An event of the ledger, by which it is known again: its position and hash. 0 is where it begins."""

    position: int
    hash: bytes


BEGINNING = Mark(0, b"")


class Portion(NamedTuple):
    """Events, and the last of them; where they were to begin, if there are none."""

    events: list[Event]
    end: Mark


async def still(source: Any, mark: Mark) -> tuple[Mark, bool]:
    """Where the ledger ends now, and whether it still has an event that it had: a failover may lose some."""
    with translated():
        record: Any = await source.fetchrow(_SQL.still, *mark)
    return Mark(record["position"], record["hash"]), record["holds"]


async def lost(source: Any, marks: Collection[Mark]) -> bool:
    """Whether the ledger has one of these events no more."""
    with translated():
        found: bool = await source.fetchval(
            _SQL.lost, [mark.position for mark in marks], [mark.hash for mark in marks]
        )
    return found


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
    return events_from(records)


async def portion(
    source: Any, after: Mark, *, limit: int = PAGE, most_bytes: int = MOST_BYTES
) -> Portion | None:
    """The next events of all, at most `limit`; fewer when they are large: an event may be hundreds of KiB.

    None when the ledger has lost the event that they were to follow.
    """
    with translated():
        records = await source.fetch(_SQL.read_portion, after.position, limit, most_bytes)
    # Asked afterwards: what was read follows that event, unless it was lost since; then its own end was, too.
    _, holds = await still(source, after)
    if not holds:
        return None
    end = Mark(records[-1]["position"], records[-1]["hash"]) if records else after
    return Portion(events_from(records), end)


async def through(
    source: Any, after: int = 0, *, upto: int = END, job: UUID | None = None, project: str | None = None
) -> AsyncIterator[list[Event]]:
    """Page after page to `upto`, or to the end that the ledger has when it is reached."""
    while events := await page(source, after, upto=upto, job=job, project=project):
        yield events
        after = events[-1].position


class Looked(NamedTuple):
    """What a filter wants of the ledger after a position, and up to which position has been looked.

    `position` is the cursor to go on from, also when nothing was found; `head` is where the ledger ended, and
    `hash` that of its last event.
    """

    events: list[Labelled]
    position: int
    head: int
    hash: bytes = b""


async def look(
    source: Any,
    asked: EventFilter,
    after: int,
    *,
    limit: int = PAGE,
    span: int = SPAN,
    most_bytes: int = MOST_BYTES,
) -> Looked:
    """At most `limit` events after a position that a filter wants, among the next `span` positions (of named
    jobs: among all, as these have an index). Fewer, when they are large: an event may be hundreds of KiB.

    All that can be decided without labels is decided in SQL. Labels are loaded only for a filter that needs
    them; for others they are empty.
    """
    with translated():
        found: Any = await source.fetchrow(_SQL.head)
        end, hashed = found["position"], found["hash"]
        upto = end if asked.jobs else min(end, after + span)
        if upto <= after:
            return Looked([], after, end, hashed)
        wanted = [after, upto, limit, asked.project, _types_of(asked), _names(asked.states), most_bytes]
        if asked.jobs:
            records = await source.fetch(_SQL.wanted_of_jobs, *wanted, list(asked.jobs))
        else:
            records = await source.fetch(_SQL.wanted_of_project, *wanted)
    events = [event_of(record) for record in records]
    whole = not records or len(events) == records[0]["looked"] < limit
    looked_to = upto if whole else events[-1].position
    labels = await labels_at(source, events) if asked.needs_labels else [{}] * len(events)
    wants = [Labelled(*each) for each in zip(events, labels, strict=True) if asked.wants(*each)]
    return Looked(wants, looked_to, end, hashed)


def _types_of(asked: EventFilter) -> list[str] | None:
    """The types that can be wanted; None for all."""
    if not asked.states:
        return _names(asked.types)
    return sorted(asked.types & _MOVES if asked.types else _MOVES)


def _names(wanted: frozenset[Any]) -> list[str] | None:
    return sorted(map(str, wanted)) or None

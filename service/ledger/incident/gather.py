"""Taking an incident out of a ledger, in one snapshot: the job's events, and what they were decided on."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import distributions
from itertools import groupby
from typing import Any
from uuid import UUID

import asyncpg

from projections.catalogue import FOLDS
from projections.quota import CONCERNED
from service.config import Settings
from service.domain import events as ev
from service.domain.events import Event
from service.domain.quota import Quota
from service.errors import NotFound
from service.ledger.asof.rows import snapshot
from service.ledger.chain import GENESIS, event_of, sealing_of
from service.ledger.incident.bundle import (
    BudgetAt,
    Bundle,
    Entry,
    Head,
    Log,
    QuotaAt,
    RoomAt,
    Versions,
    events_of,
)
from service.ledger.incident.replay import carried_out
from service.ledger.incident.safe import shown
from sql import queries

_SQL = queries("incident")
_LEDGER = queries("ledger")
_ASOF = queries("asof")

#: What a job's decisions look at of its project. Tokens are not: their hashes stay where they are.
_OF_PROJECT = (
    ev.ProjectCreated,
    ev.QuotaSet,
    ev.BudgetSet,
    ev.DataStoreSet,
    ev.DataStoreRemoved,
    ev.VolumeCreated,
    ev.VolumeDeleted,
    ev.ProjectKeyDestroyed,
)
#: What is decided on the project's quota.
_ON_QUOTA = ev.JobSubmitted | ev.RunQueued | ev.RunFinalized | ev.SubmissionRefused
_LONG_S = 300
_RECORDS = 500
#: Of so many placements, the last ones, it is told what the node had left: each takes a look at all of them.
MOST_ROOMS = 20


async def gather(
    pool: asyncpg.Pool, job: UUID, settings: Settings, *, docker: str | None = None, log: Log | None = None
) -> Bundle:
    """The bundle of a job, deleted or not. Raises `NotFound` when it never was."""
    async with snapshot(pool) as connection:
        return await _gathered(connection, job, settings, docker, log)


async def _gathered(
    connection: Any, job: UUID, settings: Settings, docker: str | None, log: Log | None
) -> Bundle:
    head = await connection.fetchrow(_LEDGER.head)
    own = _entries(await connection.fetch(_SQL.of_job, job, head["position"], timeout=_LONG_S))
    if not own:
        raise NotFound(f"there is no job {job}")
    events = events_of(own)
    project, last = str(events[0].project), events[-1].position
    engines = sorted(
        {event.body.engine for event in events if isinstance(event.body, ev.RunPlaced | ev.RunAdopted)}
    )
    placed = [event for event in events if isinstance(event.body, ev.RunPlaced)]
    types = [kind.__name__ for kind in _OF_PROJECT]
    others = await connection.fetch(_SQL.of_project, project, last, types, timeout=_LONG_S)
    yard = await connection.fetch(_SQL.of_yard, last, engines, timeout=_LONG_S)
    entries = sorted((*own, *_entries(others), *_entries(yard)), key=lambda entry: entry.event.position)
    asked = _asked_for(events)
    has_budget = any(record["type"] == ev.BudgetSet.__name__ for record in others)
    return Bundle(
        job=job,
        project=project,
        made_at=datetime.now(UTC),
        head=Head(
            ledger_id=UUID(int=head["ledger_id"].int),
            epoch=head["epoch"],
            position=head["position"],
            hash=head["hash"].hex(),
        ),
        events=tuple(entries),
        quota=tuple(await _quotas(connection, project, list(asked))),
        budget=tuple(await _budgets(connection, project, asked) if has_budget else ()),
        room=tuple([await _room(connection, event) for event in placed[-MOST_ROOMS:]]),
        settings=shown(settings),
        versions=await _versions(connection, docker),
        log=log,
    )


def _entries(records: Iterable[Any]) -> list[Entry]:
    return [
        Entry(
            previous=(record["previous"] or GENESIS).hex(),
            hash=record["hash"].hex(),
            event=sealing_of(record),
        )
        for record in records
    ]


def _asked_for(events: Sequence[Event]) -> dict[int, datetime]:
    """Where quota and budget counted, by position: where a command of such an event begins; and when."""
    commands = [list(group) for _, group in groupby(events, carried_out)]
    counted = [each[0] for each in commands if any(isinstance(event.body, _ON_QUOTA) for event in each)]
    return {first.position: first.recorded_at for first in counted}


async def _quotas(connection: Any, project: str, positions: list[int]) -> list[QuotaAt]:
    """The project's quota before each of the positions."""
    types = [name for name, body in ev.BODIES.items() if issubclass(body, CONCERNED)]
    rows = await _before(connection, "quota", project, positions, types)
    return [QuotaAt(position=each, quota=row or Quota(project=project)) for each, row in rows]


async def _budgets(connection: Any, project: str, asked: dict[int, datetime]) -> list[BudgetAt]:
    """How the project stood at its budget before each of the positions, where it had one; by their times."""
    rows = await _before(connection, "spend", project, list(asked), list(ev.BODIES))
    stood = [(each, row.standing(asked[each])) for each, row in rows if row is not None]
    return [
        BudgetAt(position=each, spent=now.spent, amount=now.budget.amount, currency=now.budget.currency)
        for each, now in stood
        if now is not None
    ]


async def _before(
    connection: Any, name: str, project: str, positions: list[int], types: list[str]
) -> list[tuple[int, Any]]:
    """A row of the project before each of some ascending positions, by the fold itself, in one pass."""
    fold, row, found = FOLDS[name], None, list[tuple[int, Any]]()
    asked = (project, positions[-1] - 1, types)
    async for record in connection.cursor(_ASOF.events_of_project, *asked, prefetch=_RECORDS):
        event = event_of(record)
        while positions[len(found)] <= event.position:
            found.append((positions[len(found)], row))
        if fold.key(event) is not None:
            row = fold.evolve(row, event)
    return found + [(each, row) for each in positions[len(found) :]]


async def _room(connection: Any, event: Event) -> RoomAt:
    engine = event.body.engine
    held = await connection.fetchrow(_SQL.held, engine, event.position, timeout=_LONG_S)
    return RoomAt(position=event.position, engine=engine, **dict(held))


async def _versions(connection: Any, docker: str | None) -> Versions:
    packages = {found.name: found.version for found in distributions()}
    return Versions(
        jobyard=packages.get("jobyard", "0"),
        python=sys.version.partition(" ")[0],
        postgres=await connection.fetchval(_SQL.server_version),
        docker=docker,
        schema=await connection.fetchval(_SQL.schema),
        packages=dict(sorted(packages.items())),
    )

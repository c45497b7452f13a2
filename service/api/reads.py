"""The reads that only the API needs: pages of jobs in every order, and what a watch looks at."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from projections.billing import Run
from projections.catalogue import FOLDS
from service.domain.directory import Node, Token
from service.domain.job import Job
from service.domain.selectors import Selector
from service.domain.states import ENDED, State
from service.ledger.database import translated
from sql import queries

_SQL = queries("jobs")
_ENDED = sorted(ENDED)

#: What jobs can be sorted by; `job_key` in sql/migrations/0003_lists.sql knows each by this name.
Sort = Literal[
    "createdAt",
    "updatedAt",
    "id",
    "user",
    "spec.name",
    "spec.image",
    "spec.timeout",
    "spec.resources.flavor",
    "spec.resources.cpu",
    "spec.resources.gpu",
    "status.state",
    "status.exitCode",
    "status.queuedAt",
    "status.initializingAt",
    "status.startedAt",
    "status.stoppedAt",
    "status.finalizedAt",
    "status.timeoutAt",
    "status.lastTransitionDate",
]


class After(NamedTuple):
    """Where a cursor goes on: after the job that was created at a position and has a sort key."""

    position: int
    key: str


class Page(NamedTuple):
    """Jobs, the database's time, how many there are in all (None: not counted), and where to go on."""

    jobs: list[Job]
    now: datetime
    total: int | None
    last: After | None


class Wanted(NamedTuple):
    """Which jobs: all that are named must hold."""

    project: str
    selector: Selector = Selector()
    states: tuple[State, ...] = ()
    name: str | None = None
    user: str | None = None
    updated_after: datetime | None = None
    updated_before: datetime | None = None

    def arguments(self) -> tuple[Any, ...]:
        """As the statements take them."""
        return (
            self.project,
            [str(state) for state in self.states] or None,
            terms(self.selector) if self.selector.terms else None,
            self.name,
            self.user,
            self.updated_after,
            self.updated_before,
        )


def terms(selector: Selector) -> str:
    """A selector as the database's `selected` takes it."""
    return msgspec.json.encode(selector.terms).decode()


async def job(pool: asyncpg.Pool, job_id: UUID) -> tuple[Job, datetime] | None:
    """A job, deleted or not, and the database's time."""
    with translated():
        record: Any = await pool.fetchrow(_SQL.one, str(job_id))
    return None if record is None else (_job(record["row"]), record["now"])


async def page(pool: asyncpg.Pool, wanted: Wanted, *, sort: Sort, up: bool, size: int, offset: int) -> Page:
    """Jobs in an order, `size` of them after the first `offset`, and how many there are in all."""
    with translated():
        count: Any = await pool.fetchrow(_SQL.count, *wanted.arguments())
        records = await _ordered(pool, wanted, sort, up, size, offset, None)
    return Page(_jobs(records), count["now"], count["total"], _last(records))


async def page_after(
    pool: asyncpg.Pool, wanted: Wanted, *, sort: Sort, up: bool, size: int, after: After | None
) -> Page:
    """Jobs in an order, from a cursor on. What lies before is not read, and nothing is counted."""
    with translated():
        now: Any = await pool.fetchval(_SQL.now)
        records = await _ordered(pool, wanted, sort, up, size, 0, after)
    return Page(_jobs(records), now, None, _last(records))


async def _ordered(
    pool: asyncpg.Pool, wanted: Wanted, sort: Sort, up: bool, size: int, offset: int, after: After | None
) -> list[Any]:
    arguments: tuple[Any, ...] = (*wanted.arguments(), size, offset, after.position if after else None)
    if sort == "createdAt":
        return await pool.fetch(_SQL.oldest if up else _SQL.newest, *arguments)
    statement = _SQL.ascending if up else _SQL.descending
    return await pool.fetch(statement, *arguments, sort, after.key if after else None)


def _jobs(records: list[Any]) -> list[Job]:
    return [_job(record["row"]) for record in records]


def _last(records: list[Any]) -> After | None:
    return After(records[-1]["position"], records[-1]["key"]) if records else None


async def runs_over(pool: asyncpg.Pool, runs: Iterable[tuple[UUID, int]]) -> set[tuple[UUID, int]]:
    """Those of the runs that have ended."""
    asked = list(runs)
    with translated():
        records = await pool.fetch(_SQL.runs_over, [str(job_id) for job_id, _ in asked], _ENDED)
    current = {record["key"]: (record["run"], record["ended"]) for record in records}
    over = set()
    for job_id, run in asked:
        now, ended = current.get(str(job_id), (run, True))
        if now > run or ended:
            over.add((job_id, run))
    return over


async def last_token_change(pool: asyncpg.Pool) -> int:
    with translated():
        found: int = await pool.fetchval(_SQL.last_token_change)
    return found


async def tokens_after(pool: asyncpg.Pool, position: int) -> list[tuple[Token, int]]:
    """The tokens that changed after a position, and where."""
    with translated():
        records = await pool.fetch(_SQL.tokens_after, position)
    return [(FOLDS["tokens"].decoder.decode(record["row"]), record["position"]) for record in records]


async def token(pool: asyncpg.Pool, token_id: str) -> Token | None:
    with translated():
        row = await pool.fetchval(_SQL.token, token_id)
    return None if row is None else FOLDS["tokens"].decoder.decode(row)


def _job(row: str) -> Job:
    found: Job = FOLDS["status"].decoder.decode(row)
    return found


async def runs_of_project(pool: asyncpg.Pool, project: str) -> list[Run]:
    """The bill of every run of a project, in the order in which they were placed."""
    with translated():
        records = await pool.fetch(_SQL.runs_of_project, project)
    return [FOLDS["billing"].decoder.decode(record["row"]) for record in records]


async def selected(pool: asyncpg.Pool, jobs: Iterable[str], selector: Selector) -> set[str]:
    """Those of the jobs, deleted or not, that a selector matches."""
    with translated():
        records = await pool.fetch(_SQL.selected_jobs, list(jobs), terms(selector))
    return {record["key"] for record in records}


async def nodes(pool: asyncpg.Pool) -> list[Node]:
    """What every engine's node can offer."""
    with translated():
        records = await pool.fetch(_SQL.nodes)
    return [FOLDS["nodes"].decoder.decode(record["row"]) for record in records]

"""The reads that only the API needs: pages of jobs in every order, and what a watch looks at."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from projections.billing import Run
from projections.catalogue import FOLDS
from service.domain.directory import Token
from service.domain.job import Job
from service.domain.states import ENDED, State
from service.ledger.database import translated
from sql import queries

_SQL = queries("jobs")
_ENDED = sorted(ENDED)

#: What jobs can be sorted by; `sql/queries/jobs.sql` knows each by this name.
SORTS = ("createdAt", "updatedAt", "status.state", "status.queuedAt", "spec.name", "user")


class Page(NamedTuple):
    """A page of jobs, how many there are in all, and the database's time."""

    jobs: list[Job]
    total: int
    now: datetime


class Wanted(NamedTuple):
    """Which jobs: all that are named must hold."""

    project: str
    states: tuple[State, ...] = ()
    labels: dict[str, str] = {}  # noqa: RUF012 (never changed)
    name: str | None = None

    def arguments(self) -> tuple[Any, ...]:
        labels = msgspec.json.encode(self.labels).decode() if self.labels else None
        return self.project, [str(state) for state in self.states] or None, labels, self.name


async def job(pool: asyncpg.Pool, job_id: UUID) -> tuple[Job, datetime] | None:
    """A job, deleted or not, and the database's time."""
    with translated():
        record: Any = await pool.fetchrow(_SQL.one, str(job_id))
    return None if record is None else (_job(record["row"]), record["now"])


async def page(pool: asyncpg.Pool, wanted: Wanted, *, sort: str, up: bool, size: int, offset: int) -> Page:
    """Jobs in an order, `size` of them after the first `offset`."""
    arguments = wanted.arguments()
    with translated():
        count: Any = await pool.fetchrow(_SQL.count, *arguments)
        if sort == "createdAt" and not up:
            records = await pool.fetch(_SQL.newest, *arguments, size, offset)
        else:
            statement = _SQL.ascending if up else _SQL.descending
            records = await pool.fetch(statement, *arguments, size, offset, sort)
    return Page([_job(record["row"]) for record in records], count["total"], count["now"])


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


async def with_labels(pool: asyncpg.Pool, jobs: Iterable[str], labels: dict[str, str]) -> set[str]:
    """Those of the jobs, deleted or not, that have all of the labels."""
    wanted = msgspec.json.encode(labels).decode()
    with translated():
        records = await pool.fetch(_SQL.labels_of_jobs, list(jobs), wanted)
    return {record["key"] for record in records}

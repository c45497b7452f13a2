"""The reads that only the API needs: pages of jobs in every order, and what a watch looks at."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from projections.catalogue import FOLDS
from service.domain.bills.focus import Charged
from service.domain.bills.run import Adjustment, Run
from service.domain.budget import Spend
from service.domain.directory import Node, Token
from service.domain.job import Job
from service.domain.selectors import Selector
from service.domain.spec import JobSpec
from service.domain.states import ENDED, State
from service.errors import Invalid
from service.ledger.database import translated
from service.ledger.job_rows import JobRows
from service.ledger.read import END
from sql import queries

_SQL = queries("jobs")
_ENDED = sorted(ENDED)
#: Among how many of a project's jobs earlier runs are looked for, and how many runs are enough.
NEWEST_JOBS, EARLIER_RUNS = 2000, 500
#: All runs of a project are sorted before the first of them comes.
_LONG_S = 300

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


#: As much of jobs' rows as one page has at most: what is answered of them is held several times over.
MOST_BYTES = 4 * 1024**2


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
    #: There are more, which would have been too many bytes at once.
    is_cut: bool = False


class Wanted(NamedTuple):
    """Which jobs: all that are named must hold."""

    project: str
    selector: Selector = Selector()
    states: tuple[State, ...] = ()
    name: str | None = None
    user: str | None = None
    updated_after: datetime | None = None
    updated_before: datetime | None = None

    @property
    def is_all(self) -> bool:
        """Whether it is every job of the project."""
        return self == Wanted(self.project)

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


async def page(
    pool: asyncpg.Pool, rows: JobRows, wanted: Wanted, *, sort: Sort, up: bool, size: int, offset: int
) -> Page:
    """Jobs in an order, `size` of them after the first `offset`, and how many there are in all."""
    with translated():
        count: Any = await pool.fetchrow(_SQL.count, *wanted.arguments())
        records = await _ordered(pool, wanted, sort, up, size, offset, None)
    require_whole(records, size, count["total"] - offset)
    return page_of(records, rows, count["now"], count["total"])


async def page_after(
    pool: asyncpg.Pool,
    rows: JobRows,
    wanted: Wanted,
    *,
    sort: Sort,
    up: bool,
    size: int,
    after: After | None,
) -> Page:
    """Jobs in an order, from a cursor on. What lies before is not read, and nothing is counted."""
    with translated():
        records = await _ordered(pool, wanted, sort, up, size, 0, after)
        now: Any = records[0]["now"] if records else await pool.fetchval(_SQL.now)
    return page_of(records, rows, now, None)._replace(is_cut=is_cut(records, size))


def require_whole(records: list[Any], size: int, left: int) -> None:
    """Raises `Invalid` where a page of `size` was cut that begins where `left` jobs are left. The last of all
    may be the one that fills it, and then nothing was cut off."""
    if is_cut(records, size) and len(records) < left:
        few = f"at most {len(records)} of these jobs at once, as they are large; or any number by cursor"
        raise Invalid("size", size, few)


def is_cut(records: list[Any], size: int) -> bool:
    """Whether a page ends where it had enough bytes; that there is more is not sure."""
    return len(records) < size and sum(len(record["row"].encode()) for record in records) >= MOST_BYTES


async def _ordered(
    pool: asyncpg.Pool, wanted: Wanted, sort: Sort, up: bool, size: int, offset: int, after: After | None
) -> list[Any]:
    if sort == "createdAt" and not up and not offset and wanted.is_all:
        position = after.position if after else END
        return await pool.fetch(_SQL.newest_of_all, wanted.project, position, size, MOST_BYTES)
    arguments: tuple[Any, ...] = (*wanted.arguments(), size, offset, after.position if after else None)
    if sort == "createdAt":
        return await pool.fetch(_SQL.oldest if up else _SQL.newest, *arguments, MOST_BYTES)
    statement = _SQL.ascending if up else _SQL.descending
    return await pool.fetch(statement, *arguments, sort, after.key if after else None, MOST_BYTES)


def page_of(records: list[Any], rows: JobRows, now: datetime, total: int | None) -> Page:
    """A page of records with a row each, and the position and key that a cursor goes on after."""
    last = After(records[-1]["position"], records[-1]["key"]) if records else None
    return Page([rows.job(record["row"]) for record in records], now, total, last)


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


async def tokens_after(pool: asyncpg.Pool, position: int) -> list[Token]:
    """The tokens that changed after a position."""
    with translated():
        records = await pool.fetch(_SQL.tokens_after, position)
    return [FOLDS["tokens"].decoder.decode(record["row"]) for record in records]


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
    return await asyncio.to_thread(_runs, records)  # a project has as many as it ever had


def _runs(records: list[Any]) -> list[Run]:
    return [FOLDS["billing"].decoder.decode(record["row"]) for record in records]


async def selected(pool: asyncpg.Pool, jobs: Iterable[str], selector: Selector) -> set[str]:
    """Those of the jobs, deleted or not, that a selector matches."""
    with translated():
        records = await pool.fetch(_SQL.selected_jobs, list(jobs), terms(selector))
    return {record["key"] for record in records}


async def spend(pool: asyncpg.Pool, project: str) -> tuple[Spend, datetime]:
    """What a project has spent, and the database's time."""
    with translated():
        record: Any = await pool.fetchrow(_SQL.spend, project)
    row = record["row"]
    return (Spend(project=project) if row is None else FOLDS["spend"].decoder.decode(row), record["now"])


async def earlier_runs(
    pool: asyncpg.Pool, project: str, spec: JobSpec, selector: Selector | None
) -> list[Run]:
    """The bills of runs of the same image and command, on as many units of the same flavor, that are among
    the newest jobs of a project; of those that the selector matches. Newest first."""
    resources = spec.resources
    same = (spec.image, msgspec.json.encode(spec.command).decode(), resources.flavor, resources.units)
    with translated():
        records = await pool.fetch(
            _SQL.earlier_runs,
            project,
            *same,
            terms(selector) if selector else None,
            NEWEST_JOBS,
            EARLIER_RUNS,
        )
    return [FOLDS["billing"].decoder.decode(record["row"]) for record in records]


class Bills(NamedTuple):
    """The bills of a project as they were at one moment: its name, runs in parts, and its own credits."""

    name: str
    runs: AsyncIterator[list[Charged]]
    credits: list[Adjustment]


@asynccontextmanager
async def bills_at_once(
    pool: asyncpg.Pool, project: str, selector: Selector | None, size: int
) -> AsyncIterator[Bills]:
    """The bills of all runs that were placed, of those jobs that the selector matches; credits of the whole
    project only without one. They are not held in memory: `size` of them are, at a time."""
    with translated():
        async with (
            pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            credits = [] if selector else await connection.fetch(_SQL.credits_of_project, project)
            yield Bills(
                name=await connection.fetchval(_SQL.name_of_project, project) or project,
                runs=_charged(connection, project, selector, size),
                credits=[FOLDS["credits"].decoder.decode(record["row"]).adjustment for record in credits],
            )


async def name_of(pool: asyncpg.Pool, project: str) -> str:
    """What a project is called."""
    with translated():
        return await pool.fetchval(_SQL.name_of_project, project) or project


async def _charged(
    connection: Any, project: str, selector: Selector | None, size: int
) -> AsyncIterator[list[Charged]]:
    asked = (project, terms(selector) if selector else None)
    cursor = await connection.cursor(_SQL.charged_runs, *asked, timeout=_LONG_S)
    decode = FOLDS["billing"].decoder.decode
    while records := await cursor.fetch(size, timeout=_LONG_S):
        yield [
            Charged(decode(each["row"]), each["name"], each["image"], msgspec.json.decode(each["labels"]))
            for each in records
        ]


async def nodes(pool: asyncpg.Pool) -> list[Node]:
    """What every engine's node can offer."""
    with translated():
        records = await pool.fetch(_SQL.nodes)
    return [FOLDS["nodes"].decoder.decode(record["row"]) for record in records]

"""Lists as of a moment of the past: the rows that nothing has touched since and the others, folded again. One
statement asks of both what those of now are asked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

import msgspec

from projections.catalogue import FOLDS
from service.api import reads
from service.api.reads import After, Page, Sort, Wanted
from service.domain.bills.focus import Charged
from service.domain.bills.run import Run
from service.domain.selectors import Selector
from service.ledger.asof import Moment
from service.ledger.ledger import Ledger
from sql import queries

_SQL = queries("asof")


async def page(
    ledger: Ledger,
    wanted: Wanted,
    moment: Moment,
    *,
    sort: Sort,
    up: bool,
    size: int,
    offset: int = 0,
    after: After | None = None,
    counted: bool = False,
) -> Page:
    """Jobs as they were, in an order: `size` of them after the first `offset`, or from a cursor on; and how
    many there were in all, if that is to be `counted`. They are ordered as `reads.page` orders those of now.
    """
    position, total = moment.position, None
    where = (after.position, after.key) if after else (None, None)
    async with ledger.folded.snapshot(ledger.pool) as connection:
        touched = await connection.fetch(_SQL.touched_jobs, wanted.project, position)
        again = await ledger.folded.texts(connection, "status", _keys(touched), position)
        if counted:
            total = await connection.fetchval(_SQL.count, *wanted.arguments(), position, again)
        statement = _SQL.ascending if up else _SQL.descending
        asked = (size, offset, where[0], sort, where[1], position, again, reads.MOST_BYTES)
        records = await connection.fetch(statement, *wanted.arguments(), *asked)
    if total is not None:
        reads.require_whole(records, size, total - offset)
    found = reads.page_of(records, ledger.job_rows, moment.at, total)
    return found._replace(is_cut=reads.is_cut(records, size))


async def runs_of_project(ledger: Ledger, project: str, moment: Moment) -> list[Run]:
    """The bill of every run of a project as it was, in the order in which they were placed."""
    async with ledger.folded.snapshot(ledger.pool) as connection:
        touched = await connection.fetch(_SQL.touched_runs, project, moment.position)
        again = await ledger.folded.texts(connection, "billing", _keys(touched), moment.position)
        return _runs(await connection.fetch(_SQL.runs_of_project, project, moment.position, again))


async def runs_of_job(ledger: Ledger, job: UUID, moment: Moment) -> list[Run]:
    """The bill of each run of a job as it was, in order."""
    async with ledger.folded.snapshot(ledger.pool) as connection:
        touched = await connection.fetch(_SQL.touched_runs_of_job, str(job), moment.position)
        again = await ledger.folded.texts(connection, "billing", _keys(touched), moment.position)
        return _runs(await connection.fetch(_SQL.runs_of_job, str(job), moment.position, again))


async def selected(ledger: Ledger, jobs: Iterable[str], selector: Selector, moment: Moment) -> set[str]:
    """Those of the jobs, deleted or not, that a selector matched."""
    asked, position = list(jobs), moment.position
    async with ledger.folded.snapshot(ledger.pool) as connection:
        touched = await connection.fetch(_SQL.touched_jobs_of, asked, position)
        again = await ledger.folded.texts(connection, "status", _keys(touched), position)
        found = await connection.fetch(_SQL.selected_jobs, asked, position, reads.terms(selector), again)
    return set(_keys(found))


async def charged(ledger: Ledger, project: str, selector: Selector | None, moment: Moment) -> list[Charged]:
    """The bills of all runs that had been placed, of those jobs that the selector matched, with the names,
    images and labels of then."""
    runs = [run for run in await runs_of_project(ledger, project, moment) if run.marks.initializing_at]
    asked, position = list({run.job for run in runs}), moment.position
    wanted = reads.terms(selector) if selector else None
    async with ledger.folded.snapshot(ledger.pool) as connection:
        touched = await connection.fetch(_SQL.touched_jobs_of, asked, position)
        again = await ledger.folded.texts(connection, "status", _keys(touched), position)
        found = await connection.fetch(_SQL.described_jobs, asked, position, wanted, again)
    jobs = {each["key"]: (each["name"], each["image"], msgspec.json.decode(each["labels"])) for each in found}
    return [Charged(run, *jobs[run.job]) for run in runs if run.job in jobs]


def _keys(records: Iterable[Any]) -> list[str]:
    return [record["key"] for record in records]


def _runs(records: Iterable[Any]) -> list[Run]:
    return [FOLDS["billing"].decoder.decode(record["row"]) for record in records]

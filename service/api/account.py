"""/v1/me, /v1/quota, /v1/billing: who is calling, what its project may use, what it costs."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from aiohttp import web
from msgspec import UNSET, Meta, field

from service.api import past, past_lists, reads, scope, wire
from service.api.call import Call, encoded, json_response
from service.api.query import Moment, Query
from service.domain.bills.run import ZERO, Run, under
from service.domain.pricing import absent, seconds, window
from service.errors import NotFound
from service.ledger import asof


class BillAsked(Query, frozen=True):
    """Of one job, or of all; as `policy` bills them; of runs placed from `from` on and before `to`; as the
    bill was at `asOf`, a position of the ledger or a time (RFC 3339)."""

    job: UUID | None = None
    policy: Literal["2021-05", "2023-12", "2026-01"] | None = None
    since: Annotated[datetime, Meta(tz=True)] | None = field(default=None, name="from")
    until: Annotated[datetime, Meta(tz=True)] | None = field(default=None, name="to")
    as_of: Moment | None = None


async def me(call: Call) -> wire.Me:
    quota = await call.ledger.quota(call.project)
    token = call.token
    return wire.Me(
        name=token.name,
        role=token.role,  # type: ignore[arg-type]  # the ledger accepts no other
        tenant=token.project,
        quotas=wire.MeQuotas(resources={"CPU": quota.cpu, "GPU": quota.gpu}),
        label_selector=token.label_selector or UNSET,
    )


async def quota(call: Call) -> wire.Quota:
    moment = await past.asked(call)
    found = await (call.ledger.quota(call.project) if moment is None else past.quota(call, moment))
    return wire.Quota(
        project=found.project,
        cpu=found.cpu,
        gpu=found.gpu,
        cpu_used=found.cpu_used,
        gpu_used=found.gpu_used,
    )


async def billing(call: Call) -> web.StreamResponse:
    """The bill stays when a job is deleted. One of all jobs has a line for each run: it is made, and encoded,
    beside what others ask for."""
    asked: BillAsked = call.query
    if asked.job is not None:
        return json_response(encoded(_bill(await _runs(call, asked.job), asked)))
    async with call.service.bills.taken(call.request, call.project):
        runs = await _runs(call, None)
        return json_response(await asyncio.to_thread(lambda: encoded(_bill(runs, asked))))


def _bill(known: list[Run], asked: BillAsked) -> wire.Bill:
    runs = [run for run in known if _placed(run, asked)]
    lines = [_line(under(run, asked.policy)) for run in runs]
    currencies = sorted({line.currency for line in lines if line.currency})
    return wire.Bill(
        items=lines,
        total=sum((line.amount for line in lines), ZERO) if len(currencies) <= 1 else None,
        currency=" ".join(currencies),
    )


async def _runs(call: Call, job: UUID | None) -> list[Run]:
    """The runs that the caller may see. Raises `NotFound` for a job that it may not."""
    if (moment := await past.asked(call)) is not None:
        return await _runs_of_then(call, job, moment)
    if job is not None:
        found = await reads.job(call.ledger.pool, job)
        if found is None or not scope.sees(call.token, found[0]):
            raise NotFound(f"job: there is no job {job}")
        return await call.ledger.runs(job)
    runs = await reads.runs_of_project(call.ledger.pool, call.project)
    selector = scope.selector_of(call.token)
    if selector is None:
        return runs
    jobs = await reads.selected(call.ledger.pool, {run.job for run in runs}, selector)
    return [run for run in runs if run.job in jobs]


async def _runs_of_then(call: Call, job: UUID | None, moment: asof.Moment) -> list[Run]:
    """The same, as of a moment of the past."""
    ledger, selector = call.ledger, scope.selector_of(call.token)
    if job is not None:
        await past.with_deleted(call, job, moment)
        return await past_lists.runs_of_job(ledger, job, moment)
    runs = await past_lists.runs_of_project(ledger, call.project, moment)
    if selector is None:
        return runs
    jobs = await past_lists.selected(ledger, {run.job for run in runs}, selector, moment)
    return [run for run in runs if run.job in jobs]


def _placed(run: Run, asked: BillAsked) -> bool:
    at = run.marks.initializing_at
    if asked.since is None and asked.until is None:
        return True
    if at is None:
        return False
    return (asked.since is None or asked.since <= at) and (asked.until is None or at < asked.until)


def _line(run: Run) -> wire.BillLine:
    billed = window(run.marks, run.policy)
    return wire.BillLine(
        job=run.job,
        run=run.run,
        flavor=run.flavor,
        kind=run.kind,
        units=run.units,
        hourly_price=run.hourly_price if run.marks.initializing_at is not None else None,
        currency=run.currency,
        policy=run.policy,
        minutes=run.minutes,
        original=run.amount,
        amount=run.net,
        adjustments=run.adjustments,
        credited=run.credited,
        window_start=billed.start if billed else None,
        window_end=billed.end if billed else None,
        absent_seconds=seconds(absent(run.marks, run.absences, run.policy)),
        positions=run.positions,
    )

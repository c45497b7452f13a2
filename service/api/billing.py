"""/v1/billing/…: statements, replays and explanations, and what overseers order beside them.

Whoever looks after the yard may name another project. A token with a label selector sees the lines of its
jobs, and none of the credits that are the whole project's.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from decimal import Decimal
from uuid import UUID

from aiohttp import web
from msgspec.structs import replace

from service.api import past, past_lists, projects, reads, scope, wire
from service.api.call import Call, encoded, json_response
from service.api.query import Moment, Query
from service.api.scope import Level
from service.domain import commands as cmd
from service.domain import events as ev
from service.domain.bills import reading
from service.domain.bills.book import Prices, read_book
from service.domain.bills.compare import Compared, add, compared, summed
from service.domain.bills.explain import Explanation, explained
from service.domain.bills.run import ZERO, Run, under
from service.domain.bills.statement import AsOf, Month, ended_at, statement
from service.domain.events import Event
from service.domain.pricing import DEFAULT_POLICY, PolicyName
from service.errors import Forbidden, Invalid, NotFound
from service.ledger import asof, bills

_MOST_RUN = 2**31 - 1
_MOST_POSITION = 2**53 - 1


class StatementAsked(Query, frozen=True):
    """Of a month such as 2026-11, in UTC, or of the one that it is; as `policy` bills it."""

    month: str | None = None
    project: str | None = None
    policy: PolicyName | None = None
    as_of: Moment | None = None


class ExplainAsked(Query, frozen=True):
    """As `policy` bills the run, and as everything was at `asOf`."""

    policy: PolicyName | None = None
    as_of: Moment | None = None


async def of_month(call: Call) -> web.StreamResponse:
    """A statement has a line for each run: it is made, and encoded, beside what others ask for."""
    async with call.service.bills.taken(call.request, call.project):
        return json_response(await _of_month(call))


async def _of_month(call: Call) -> bytes:
    asked: StatementAsked = call.query
    month = Month.read("month", asked.month) if asked.month is not None else None
    project = await project_asked(call, asked.project)
    then = await _as_of(call)
    month = month or Month.of(then.time)
    pool, selector = call.ledger.pool, scope.selector_of(call.token)
    past_labels = selector is not None and asked.as_of is not None
    runs = await bills.of_month(pool, project, month, then.position, None if past_labels else selector)
    if selector is not None and past_labels:
        # Of then, a token sees what it would have seen.
        moment = asof.Moment(then.position, then.time)
        seen = await past_lists.selected(call.ledger, {run.job for run in runs}, selector, moment)
        runs = [run for run in runs if run.job in seen]
    credits = [] if selector is not None else await bills.credits(pool, project, then.position)
    policy = asked.policy or DEFAULT_POLICY

    def made() -> bytes:
        return encoded(statement(project, month, runs, credits, then, policy))

    return await asyncio.to_thread(made)


async def replay(call: Call) -> wire.Replay:
    """All that is asked is checked before anything is read."""
    asked: wire.ReplayAsked = call.body
    since = reading.moment("from", asked.since) if asked.since is not None else None
    until = reading.moment("to", asked.until) if asked.until is not None else None
    if since is not None and until is not None and until <= since:
        raise Invalid("to", asked.until, "a time later than from")
    if asked.price_book is not None and asked.ledger_prices:
        raise Invalid("ledgerPrices", True, "name one of priceBook and ledgerPrices")
    book: Prices | None = None
    if asked.price_book is not None:
        book = read_book("priceBook", asked.price_book, call.service.parts.settings.currency)
    if asked.ledger_prices:
        book = await call.ledger.prices()
    project = await project_asked(call, asked.project)
    async with call.service.replays.taken(call.request, call.project):
        then = await _latest(call)
        found = Replayed(asked.policy, book)
        selector = scope.selector_of(call.token)
        async for page in bills.replayed(call.ledger.pool, project, then.position, selector):
            inside = [
                (live, again)
                for live, again in page
                if (at := ended_at(live)) is not None
                and (since is None or since <= at)
                and (until is None or at < until)
            ]
            await asyncio.to_thread(found.take, inside, differing=bool(asked.differing))
    return wire.Replay(
        project=project,
        policy=asked.policy,
        as_of=then,
        runs=found.runs,
        differ=found.differ,
        unpriced=found.unpriced,
        lines=found.lines,
        totals=list(summed(found.sums)),
    )


class Replayed:
    """What has been compared so far."""

    def __init__(self, policy: PolicyName | None, book: Prices | None) -> None:
        self._policy = policy
        self._book = book
        self.runs = self.differ = self.unpriced = 0
        self.lines: list[Compared] = []
        self.sums: dict[str, list[Decimal]] = defaultdict(lambda: [ZERO, ZERO])

    def take(self, pairs: list[tuple[Run, Run]], *, differing: bool) -> None:
        for live, again in pairs:
            line = compared(live, again, self._policy or live.policy, self._book)
            self.runs += 1
            self.differ += line.differs
            self.unpriced += line.replayed is None
            add(self.sums, line)
            if line.differs or not differing:
                self.lines.append(line)


async def explain(call: Call) -> Explanation:
    asked: ExplainAsked = call.query
    job, number = _run_id(call.path("job"), call.path("run"))
    then = await _as_of(call)
    pool = call.ledger.pool
    if asked.as_of is not None and not _oversees(call):
        await past.with_deleted(call, job, asof.Moment(then.position, then.time))
    known = await reads.job(pool, job)
    seen = asked.as_of is not None or (known is not None and scope.sees(call.token, known[0]))
    live = await bills.of_run(pool, job, number) if seen or _oversees(call) else None
    run = await bills.as_of(pool, live, then.position) if live is not None else None
    if run is None:
        raise NotFound(f"there is no run {number} of job {job}")
    events = await bills.events_of(pool, job, number, then.position)
    return explained(under(run, asked.policy), events, await call.ledger.prices(), then.time)


async def credit(call: Call) -> wire.Ordered:
    asked: wire.CreditAsked = call.body
    amount = reading.money("amount", asked.amount)
    if (asked.job is None) != (asked.run is None):
        raise Invalid("run" if asked.run is None else "job", None, "name job and run, or neither")
    live = None if asked.job is None or asked.run is None else await _billed(call, asked.job, asked.run)
    project = await _ordered_in(call, asked.project, live)
    settings = call.service.parts.settings
    usual = live.currency if live is not None else settings.currency
    command = cmd.GrantCredit(
        project=project,
        amount=amount,
        currency=usual if asked.currency is None else reading.currency("currency", asked.currency),
        reason=asked.reason,
        cites=await _cited(call, project, asked.cites),
        job=UUID(live.job) if live is not None else None,
        run=live.run if live is not None else None,
    )
    return _ordered((await call.submit(command)).events[0])


async def correct(call: Call) -> wire.Ordered:
    asked: wire.CorrectionAsked = call.body
    price = reading.price("hourlyPrice", asked.hourly_price) if asked.hourly_price is not None else None
    amount = reading.money("amount", asked.amount) if asked.amount is not None else None
    live = await _billed(call, asked.job, asked.run)
    project = await _ordered_in(call, asked.project, live)
    command = cmd.CorrectBill(
        project=project,
        job=UUID(live.job),
        run=live.run,
        reason=asked.reason,
        cites=await _cited(call, project, asked.cites),
        amount=amount,
        minutes=asked.minutes,
        hourly_price=price,
    )
    (event,) = (await call.submit(command)).events
    body: ev.BillCorrected = event.body
    return replace(
        _ordered(event),
        corrected=body.corrected,
        minutes=body.minutes,
        units=live.units,
        hourly_price=body.hourly_price,
    )


def _ordered(event: Event) -> wire.Ordered:
    body: ev.CreditGranted | ev.BillCorrected = event.body
    return wire.Ordered(
        position=event.position,
        project=event.project or "",
        job=str(event.job) if event.job is not None else None,
        run=event.run,
        amount=body.difference if isinstance(body, ev.BillCorrected) else -body.amount,
        currency=body.currency,
        reason=body.reason,
    )


async def _as_of(call: Call) -> AsOf:
    """What `asOf` asks for, or now."""
    moment = await past.asked(call)
    return AsOf(moment.position, moment.at) if moment is not None else await _latest(call)


async def _latest(call: Call) -> AsOf:
    moment = await asof.latest(call.ledger.pool)
    return AsOf(moment.position, moment.at)


def _oversees(call: Call) -> bool:
    return scope.level_of(call.token) >= Level.OVERSEE


async def project_asked(call: Call, asked: str | None) -> str:
    """The project that is asked about: the caller's own, unless it looks after all of them."""
    if asked is None or asked == call.project:
        return call.project
    if not _oversees(call):
        raise Forbidden(f"project: your token is of project {call.project}, and sees no other")
    await projects.known(call, asked)
    return asked


async def _ordered_in(call: Call, asked: str | None, live: Run | None) -> str:
    """The project that an order is about: the run's, when it names one."""
    if live is None:
        return await project_asked(call, asked)
    if asked not in (None, live.project):
        raise NotFound(f"project: run {live.run} of job {live.job} is not in project {asked[:64]!r}")
    return live.project


async def _billed(call: Call, job: str, run: int) -> Run:
    """The bill of a run that an overseer names. An empty text names none, and must not pass for no job."""
    if not job:
        raise Invalid("job", job, "the id of a job, which is a UUID")
    job_id, number = _run_id(job, str(run))
    live = await bills.of_run(call.ledger.pool, job_id, number)
    if live is None:
        raise NotFound(f"there is no run {number} of job {job_id}")
    return live


def _run_id(job: str, run: str) -> tuple[UUID, int]:
    """Raises `NotFound` for what can name no run."""
    try:
        job_id = UUID(job)
    except ValueError:
        job_id = None
    if job_id is None or str(job_id) != job.lower():
        raise NotFound(f"there is no job {job[:64]!r}; an id is a UUID")
    if not (run.isascii() and run.isdigit() and len(run) <= 10 and 1 <= int(run) <= _MOST_RUN):
        raise NotFound(f"there is no run {run[:64]!r} of job {job_id}; runs are counted from 1")
    return job_id, int(run)


async def _cited(call: Call, project: str, cites: list[int] | None) -> tuple[int, ...]:
    positions = tuple(cites or ())
    for position in positions:
        if not 1 <= position <= _MOST_POSITION:
            raise Invalid("cites", position, "the position of an event, 1 or more")
    await bills.check_cited(call.ledger.pool, project, positions)
    return positions

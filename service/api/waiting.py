"""/v1/job/{id}/why: what a run waits for, or waited for, as the plans of that time had it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

from msgspec import Meta

from projections.waiting import why as waits
from projections.waiting.moments import walk
from projections.waiting.why import Span, Stretch
from projections.waiting.yard import MOVE_TYPES
from service.api import scope, wire
from service.api.call import Call
from service.api.jobs import seen
from service.api.query import Query
from service.domain import events as ev
from service.domain.events import Event, Info
from service.domain.job import Job
from service.domain.labels import OWN_LABELS
from service.domain.pricing import Interval, seconds
from service.domain.refusals import digest_of
from service.errors import Invalid
from service.ledger import past

#: As many moves as one answer plans again; what lies before them is told by what was noted.
MOST_MOVES = 20_000
#: More than so many are planned again by one request at a time, as what-ifs are.
FEW_MOVES = 500
#: As many jobs as a stretch names.
MOST_NAMED = 20

_TYPES = (*MOVE_TYPES, "RunNoted", "DataSyncMoved")


class WhyAsked(Query, frozen=True):
    """Of which run; the current or last one, unless named."""

    run: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None


async def why(call: Call) -> wire.Why:
    """As of now. A deleted job is not there, as everywhere."""
    job, now = await seen(call)
    run = call.query.run or job.run
    if run > job.run:
        raise Invalid("run", run, f"the job's runs are 1 to {job.run}")
    # Also of the run before: what was refused since it began was refused to this one.
    events = await past.of_job(call.ledger.pool, job.id, _TYPES, runs=(run - 1, run))
    lost = await _lost_since(call, job, now)
    found: list[Stretch] = []
    for span in waits.spans(events, run, now):
        if span.phase == "QUEUED":
            found += await _queued(call, job.id, events, run, span, now, lost)
        else:
            since = lost if span.until == now else None
            found += waits.at_work(events, job.spec, run, span, since)
    return await _answer(call, job, run, now, events, waits.shortened(found))


async def _lost_since(call: Call, job: Job, now: datetime) -> datetime | None:
    """Since when nobody has looked after the node, if nobody does."""
    leases = await call.ledger.leases()
    if not leases or any(lease.held for lease in leases):
        return None
    return now - timedelta(seconds=min(lease.seen_s for lease in leases))


async def _queued(
    call: Call, job: UUID, events: Sequence[Event], run: int, span: Span, now: datetime, lost: datetime | None
) -> list[Stretch]:
    pool = call.ledger.pool
    upto = await past.position_at(pool, span.until)
    patience = timedelta(seconds=call.service.parts.settings.patience_s)
    begin = span.since - patience  # whoever has been first for that long is told from the others
    after = await past.position_at(pool, begin)
    cut = await past.since_moves(pool, after, upto, MOST_MOVES)
    told: list[Stretch] = []
    if cut is not None:
        (last,) = await call.ledger.events(cut - 1, limit=1)
        begin, after = last.recorded_at, cut
        if begin > span.since:
            told = waits.noted(events, run, span, begin)
    few = await past.moves_within(pool, after, upto, FEW_MOVES + 1) <= FEW_MOVES
    turn = call.service.planning.taken(call.request, call.project)
    async with nullcontext() if few else turn:
        found = await past.load(pool, begin, after, upto)
        unseen = [Interval(lost, now + timedelta(days=1))] if lost and span.until == now else []
        moments = walk(found.yard, found.events, [*found.gaps, *unseen], begin, span.until, about=job)
        return told + await asyncio.to_thread(waits.queued, found.yard, moments, job, span)


async def _answer(
    call: Call, job: Job, run: int, now: datetime, events: Sequence[Event], found: list[Stretch]
) -> wire.Why:
    ids = {each.job for stretch in found for each in stretch.ahead}
    ids |= {each.job for stretch in found for each in stretch.holders}
    known = {each.id: each for each in await call.ledger.jobs_of(ids) if scope.sees(call.token, each)}
    # Not of the job's row, which tells of the newest runs only.
    moves = [event for event in events if event.run == run and isinstance(event.body, ev.Move)]
    return wire.Why(
        job=str(job.id),
        name=job.spec.name,
        run=run,
        state=moves[-1].body.target,
        as_of=now,
        waiting=bool(found) and found[-1].phase in waits.BEFORE_RUNNING and found[-1].until == now,
        queued_at=moves[0].occurred_at,
        wait_seconds=seconds(waits.waited(found)),
        refused=await _refused(call, job, run, events),
        stretches=[_shown(stretch, known) for stretch in found],
    )


async def _refused(call: Call, job: Job, run: int, events: Sequence[Event]) -> wire.RefusedBefore | None:
    """How often the work was refused before the run, since when, and for what; as far as the token saw it."""
    if run > 1:
        begun = {event.run: event.position for event in events if isinstance(event.body, ev.RunQueued)}
        refused = await past.of_job(
            call.ledger.pool,
            job.id,
            ["SubmissionRefused"],
            after=begun.get(run - 1, 0),
            upto=begun.get(run, 0),
        )
    else:
        submitted = events[0]
        refused = await past.refusals_before(call.ledger.pool, submitted, digest_of(submitted.body.spec))
    # With the labels that it was refused with: who sees the job only since it has others did not see that.
    own = {name: job.spec.labels[name] for name in OWN_LABELS if name in job.spec.labels}
    refused = [event for event in refused if scope.reaches(call.token, event.body.labels | own)]
    if not refused:
        return None
    return wire.RefusedBefore(
        times=len(refused),
        since=refused[0].occurred_at,
        last=refused[-1].occurred_at,
        info=_info(refused[-1].body.info),
        positions=[event.position for event in refused],
    )


def _info(info: Info) -> wire.Info:
    return wire.Info(code=info.code, message=info.message, arguments=info.arguments)


def _shown(stretch: Stretch, known: dict[UUID, Job]) -> wire.WaitStretch:
    """With the names of the jobs that the caller may see, and the number of the others."""
    ahead = [each for each in stretch.ahead if each.job in known]
    holders = [each for each in stretch.holders if each.job in known]
    strangers = [each.amount for each in stretch.holders if each.job not in known]
    return wire.WaitStretch(
        phase=stretch.phase,
        since=stretch.since,
        until=stretch.until,
        seconds=seconds(stretch.lasted),
        constraint=stretch.constraint,
        info=_info(stretch.info),
        ahead=[
            wire.JobAhead(id=str(each.job), name=known[each.job].spec.name, why=each.why)
            for each in ahead[:MOST_NAMED]
        ],
        ahead_of_others=wire.Others(jobs=len(stretch.ahead) - len(ahead)),
        held_by=[
            wire.JobHolding(id=str(each.job), name=known[each.job].spec.name, amount=each.amount)
            for each in holders[:MOST_NAMED]
        ],
        held_by_others=wire.Others(jobs=len(strangers), amount=sum(strangers)),
        more=max(0, len(ahead) - MOST_NAMED) + max(0, len(holders) - MOST_NAMED),
        share_percent=round(stretch.share * 100),
        positions=stretch.positions,
        merged=stretch.merged,
    )

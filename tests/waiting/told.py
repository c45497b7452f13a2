"""Why a job of a story waited, by the service's own folds, and by a second opinion without their thrift."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import groupby
from uuid import UUID

from projections.waiting import why
from projections.waiting.moments import absences, walk
from projections.waiting.why import Stretch
from projections.waiting.yard import PastYard
from service.domain import events as ev
from service.domain.evolve import history_of
from service.domain.scheduling import Node, Plan, plan
from service.domain.states import PLACED, State
from tests.support.jobs import T0
from tests.support.story import Story


def stretches(story: Story, job: UUID, run: int = 1) -> list[Stretch]:
    """All that the run waited for, as of now."""
    now, events = story.ledger.now, story.events
    of_job = [event for event in events if event.job == job]
    found: list[Stretch] = []
    for span in why.spans(of_job, run, now):
        if span.phase == "QUEUED":
            yard = PastYard()
            moments = walk(yard, events, absences(events), T0, span.until, about=job)
            found += why.queued(yard, moments, job, span)
        else:
            found += why.at_work(of_job, story.job(job).spec, run, span)
    return found


def plans(story: Story) -> Iterator[tuple[datetime, Plan | None]]:
    """The plan of every moment, of all jobs, each time from the beginning; None while nobody was there.

    By nothing but `plan` and `history_of`: neither the walk nor the past yard has a part in it.
    """
    gaps = [
        (event.body.absent_since, event.recorded_at)
        for event in story.events
        if isinstance(event.body, ev.SupervisorStarted) and event.body.absent_since is not None
    ]
    groups = [list(group) for _, group in groupby(story.events, key=lambda event: event.recorded_at)]
    first_since: dict[UUID, datetime] = {}
    told: list[ev.Event] = []
    began: ev.SupervisorStarted | None = None
    ends = [group[0].recorded_at for group in groups[1:]] + [story.ledger.now]
    for group, end in zip(groups, ends, strict=True):
        told += group
        for event in group:
            if isinstance(event.body, ev.SupervisorStarted):
                began, first_since = event.body, {}
        at: datetime | None = group[0].recorded_at
        while at is not None:
            if began is None or any(start <= at < over for start, over in gaps):
                yield at, None
                due = [start for start, _ in gaps if at < start < end]
            else:
                jobs = history_of(told)
                node = Node(began.node, began.cpus, began.memory, began.devices, began.gpu_trouble)
                made = plan(
                    node,
                    [job for job in jobs.values() if job.state in PLACED],
                    [job for job in jobs.values() if job.state is State.QUEUED],
                    at,
                    began.patience_ms / 1000,
                    first_since,
                )
                first_since = {job: first_since.get(job, at) for job in made.first}
                yield at, made
                patience = timedelta(milliseconds=began.patience_ms)
                due = [since + patience for since in first_since.values() if at < since + patience < end]
                due += [start for start, _ in gaps if at < start < end]
            at = min(due, default=None)

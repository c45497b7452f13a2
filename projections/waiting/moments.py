"""The moments at which a plan may have changed: an event, the end of a patience, a supervisor lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import NamedTuple
from uuid import UUID

from projections.waiting.yard import PastYard
from service.domain import events as ev
from service.domain.events import Event
from service.domain.pricing import Interval
from service.domain.scheduling import Plan


class Moment(NamedTuple):
    """What holds from `at` on. `absent`: nobody looks after the node; then there is no plan.

    `positions` are the events that made it so; none when time alone did.
    """

    at: datetime
    positions: tuple[int, ...]
    absent: bool
    plan: Plan | None


def absences(events: Iterable[Event]) -> list[Interval]:
    """When nobody looked after the node, as each supervisor said of the time before it."""
    found = []
    for event in events:
        body = event.body
        if isinstance(body, ev.SupervisorStarted) and body.absent_since is not None:
            found.append(Interval(body.absent_since, event.recorded_at))
    return [gap for gap in found if gap.end > gap.start]


def walk(
    yard: PastYard,
    events: Sequence[Event],
    gaps: Sequence[Interval],
    begin: datetime,
    upto: datetime,
    *,
    about: UUID | None = None,
) -> Iterator[Moment]:
    """Take the yard from `begin`, as which it is, through the events as far as `upto`, which is left out.

    What was recorded together counts together: nobody has ever seen a half of a commit.
    """
    commits = [(at, list(group)) for at, group in groupby(events, key=lambda event: event.recorded_at)]
    losses = sorted(gap.start for gap in gaps)
    now = begin
    yield _moment(yard, now, (), gaps, about)
    for at, group in [*commits, (upto, [])]:
        while (between := _next(yard, losses, gaps, now, min(at, upto))) is not None:
            now = between
            yield _moment(yard, now, (), gaps, about)
        if at >= upto:
            return
        for event in group:
            yard.apply(event)
        now = at
        yield _moment(yard, now, tuple(event.position for event in group), gaps, about)


def _next(
    yard: PastYard, losses: Sequence[datetime], gaps: Sequence[Interval], now: datetime, before: datetime
) -> datetime | None:
    """The first moment after `now` and before the next event that needs no event."""
    due = [at for at in losses if now < at < before][:1]
    tired = None if _within(gaps, now) else yard.next_tired(now)
    if tired is not None and tired < before:
        due.append(tired)
    return min(due, default=None)


def _moment(
    yard: PastYard, at: datetime, positions: tuple[int, ...], gaps: Sequence[Interval], about: UUID | None
) -> Moment:
    absent = _within(gaps, at)
    return Moment(at, positions, absent, None if absent else yard.planned(at, about=about))


def _within(gaps: Sequence[Interval], at: datetime) -> bool:
    return any(gap.start <= at < gap.end for gap in gaps)

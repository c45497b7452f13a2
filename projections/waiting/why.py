"""A run's whole wait: stretch after stretch what bound it, since when and until when, and by which events.
Together the stretches before RUNNING are exactly the time from the queue to there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple
from uuid import UUID

import msgspec
from msgspec.structs import replace

from projections.waiting.moments import Moment
from projections.waiting.reasons import (
    LOST,
    OF_RESOURCE,
    OF_STOP,
    PLACING,
    Ahead,
    Binding,
    Constraint,
    Holder,
    binding,
)
from projections.waiting.yard import PastYard
from service.domain import events as ev
from service.domain.events import Event, Info
from service.domain.spec import JobSpec
from service.domain.states import MEANING, State

Phase = Literal["REFUSED", "QUEUED", "INITIALIZING", "PENDING", "FINALIZING"]
#: The phases that are waited through before RUNNING.
BEFORE_RUNNING: tuple[Phase, ...] = ("QUEUED", "INITIALIZING", "PENDING")

#: More stretches than this are told shorter: neighbours of one reason become one.
MOST_STRETCHES = 200

#: What a note of a run says it waits for; any other says no more than its state does.
_OF_NOTE: dict[str, Constraint] = {
    "pulling-image": "registry",
    "registry-not-answering": "registry",
    "data-not-answering": "data",
    "data-answers": "data",
    "engine-not-answering": "node-lost",
    **OF_STOP,
}


class Stretch(msgspec.Struct, frozen=True):
    """One reason, from `since` to `until`. `positions` are the events that began it; none: time alone did.

    `merged` says that others of the same reason were put into it: then it tells of all of them together.
    """

    phase: Phase
    since: datetime
    until: datetime
    constraint: Constraint
    info: Info
    ahead: tuple[Ahead, ...] = ()
    holders: tuple[Holder, ...] = ()
    share: float = 0.0
    positions: tuple[int, ...] = ()
    merged: bool = False

    @property
    def lasted(self) -> timedelta:
        return self.until - self.since


class Span(NamedTuple):
    """A phase of a run, with the event that began it."""

    phase: Phase
    since: datetime
    until: datetime
    position: int


def spans(events: Iterable[Event], run: int, now: datetime) -> list[Span]:
    """The phases of a run that wait for something, of all the job's events; the last may still go on."""
    moves = [
        event
        for event in events
        if event.run == run and isinstance(event.body, ev.Move) and event.body.target != event.body.source
    ]
    ends = [event.occurred_at for event in moves[1:]] + [now]
    return [
        Span(_PHASES[event.body.target], event.occurred_at, max(event.occurred_at, end), event.position)
        for event, end in zip(moves, ends, strict=True)
        if event.body.target in _PHASES
    ]


_PHASES: dict[State, Phase] = {
    State.QUEUED: "QUEUED",
    State.INITIALIZING: "INITIALIZING",
    State.PENDING: "PENDING",
    State.FINALIZING: "FINALIZING",
}


def queued(yard: PastYard, moments: Iterable[Moment], job: UUID, span: Span) -> list[Stretch]:
    """The stretches of a job's time in the queue. `moments` go as far as its end, and take `yard` along."""
    found: list[Stretch] = []
    for moment in moments:
        known = yard.jobs.get(job)
        if known is None or known.state is not State.QUEUED or known.queued_at < span.since:
            continue
        since = max(moment.at, span.since)
        stretch = _stretch("QUEUED", since, span.until, binding(yard, moment, known))
        _add(found, replace(stretch, positions=moment.positions))
    return found


def _stretch(phase: Phase, since: datetime, until: datetime, of: Binding) -> Stretch:
    return Stretch(
        phase,
        since,
        until,
        constraint=of.constraint,
        info=of.info,
        ahead=of.ahead,
        holders=of.holders,
        share=of.share,
    )


def _add(found: list[Stretch], new: Stretch) -> None:
    """Put one after the others, which end where it begins. What says nothing new is no stretch of its own,
    nor is what lasted for no time."""
    if found:
        found[-1] = replace(found[-1], until=new.since)
        if found[-1].lasted <= timedelta():
            found.pop()
    if found and _same(found[-1], new):
        found[-1] = replace(found[-1], until=new.until)
    else:
        found.append(new)


def _same(one: Stretch, other: Stretch) -> bool:
    return (one.constraint, one.info, one.ahead, one.holders) == (
        other.constraint,
        other.info,
        other.ahead,
        other.holders,
    )


def at_work(
    events: Sequence[Event], spec: JobSpec, run: int, span: Span, lost: datetime | None = None
) -> list[Stretch]:
    """The stretches of a phase in which the run has its place, by what was noted meanwhile.

    `lost`: since when nobody has looked after the node, and still does not.
    """
    found: list[Stretch] = []
    for change in _changes(events, run, span, _of_phase(events, spec, run, span), lost):
        positions = (change.position,) if change.position else ()
        _add(
            found,
            Stretch(span.phase, change.at, span.until, change.constraint, change.info, positions=positions),
        )
    return [each for each in found if each.lasted > timedelta()] or found[:1]


class _Change(NamedTuple):
    """From `at` on, this is what the run waits for, by the event at `position` (0: by none)."""

    at: datetime
    position: int
    constraint: Constraint
    info: Info


def _changes(
    events: Sequence[Event], run: int, span: Span, usual: tuple[Constraint, Info], lost: datetime | None
) -> list[_Change]:
    """In order. Times in which nobody looked after the run go before whatever was noted."""
    changes = [_Change(span.since, span.position, *usual)]
    gaps: list[_Change] = []
    ends: list[datetime] = []
    for event in events:
        if event.run != run:
            continue
        body = event.body
        if isinstance(body, ev.RunNoted) and span.since <= event.occurred_at < span.until:
            constraint = _OF_NOTE.get(body.info.code, usual[0])
            changes.append(_Change(event.occurred_at, event.position, constraint, body.info))
        elif isinstance(body, ev.RunAdopted):
            gaps.append(_Change(max(span.since, body.absent_since), event.position, "node-lost", LOST))
            ends.append(min(span.until, event.occurred_at))
    if lost is not None:
        gaps.append(_Change(max(span.since, lost), 0, "node-lost", LOST))
        ends.append(span.until)
    for gap, end in zip(gaps, ends, strict=True):
        if gap.at >= end:
            continue
        resumed = [change for change in changes if change.at <= end][-1]._replace(
            at=end, position=gap.position
        )
        outside = [change for change in changes if not gap.at <= change.at <= end]
        changes = sorted([*outside, gap, resumed], key=lambda each: each.at)
    return [change for change in changes if change.at < span.until] or changes[:1]


def _of_phase(events: Sequence[Event], spec: JobSpec, run: int, span: Span) -> tuple[Constraint, Info]:
    """What a phase waits for when nothing more particular was noted."""
    match span.phase:
        case "INITIALIZING" if any(volume.pull_from for volume in spec.volumes):
            return "data", _moving(events, run, span, "pull", MEANING[State.INITIALIZING])
        case "INITIALIZING":
            return "node", Info("initializing", "The run's place is being made ready.")
        case "PENDING":
            return "node", Info("pending", MEANING[State.PENDING])
        case "FINALIZING" if any(volume.push_to for volume in spec.volumes):
            return "data", _moving(events, run, span, "push", MEANING[State.FINALIZING])
        case _:
            return "node", Info("finalizing", "The job's log is being kept and its place put away.")


def _moving(events: Sequence[Event], run: int, span: Span, direction: ev.Direction, message: str) -> Info:
    """With how far the data was by the end of the phase, as far as it was told."""
    told = [
        event.body
        for event in events
        if isinstance(event.body, ev.DataSyncMoved)
        and (event.run, event.body.direction, event.body.manual) == (run, direction, False)
        and event.recorded_at <= span.until
    ]
    facts: dict[str, ev.Value] = {}
    if told:
        volumes = told[-1].volumes
        facts = {
            "dataSync": told[-1].sync_id,
            "objects": sum(volume.processed for volume in volumes),
            "objectsInAll": sum(volume.total for volume in volumes),
            "bytes": sum(volume.transferred_bytes for volume in volumes),
        }
    return Info(f"{direction}ing-data", message, facts)


def noted(events: Sequence[Event], run: int, span: Span, until: datetime) -> list[Stretch]:
    """The stretches of a part of the queue's time, up to `until`, by what was noted: not with who was ahead.

    For a wait through more than can be planned again. What stood behind others was bound by what they lacked,
    which was not noted: it is told as bound by the CPUs that every job needs.
    """
    found: list[Stretch] = []
    for event in events:
        body = event.body
        if event.run == run and isinstance(body, ev.RunNoted) and span.since <= event.occurred_at < until:
            resource = str(body.info.arguments.get("resource", "cpus"))
            constraint = OF_STOP.get(body.info.code) or OF_RESOURCE[resource]
            since = event.occurred_at if found else span.since
            new = Stretch("QUEUED", since, until, constraint, body.info, merged=True)
            _add(found, replace(new, positions=(event.position,)))
    return found or [Stretch("QUEUED", span.since, until, "node", PLACING, merged=True)]


def shortened(found: list[Stretch], most: int = MOST_STRETCHES) -> list[Stretch]:
    """As it is, or with neighbours of one reason told as one, when there are too many."""
    if len(found) <= most:
        return found
    short: list[Stretch] = []
    for each in found:
        last = short[-1] if short else None
        if last is None or (last.phase, last.constraint, last.info) != (
            each.phase,
            each.constraint,
            each.info,
        ):
            short.append(each)
            continue
        short[-1] = replace(
            last,
            until=each.until,
            ahead=_union(last.ahead, each.ahead),
            holders=_union(last.holders, each.holders),
            positions=(*last.positions, *each.positions),
            merged=True,
        )
    return short


def _union(one: tuple[object, ...], other: tuple[object, ...]) -> tuple:  # type: ignore[type-arg]
    return tuple(dict.fromkeys((*one, *other)))


def waited(found: Iterable[Stretch]) -> timedelta:
    """From the queue to RUNNING, or as far as it came."""
    return sum((each.lasted for each in found if each.phase in BEFORE_RUNNING), timedelta())

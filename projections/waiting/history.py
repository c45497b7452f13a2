"""What happened, as what-if needs it, made of the ledger's events. What never got a place is given the course
of runs like it (`estimates`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace as changed
from datetime import datetime, timedelta
from uuid import UUID, uuid5

from projections import billing
from projections.waiting.estimates import estimated
from projections.waiting.moments import walk
from projections.waiting.pieces import Asked, Course, History, Piece, RunKey
from projections.waiting.yard import PastYard
from service.domain import events as ev
from service.domain.events import Event
from service.domain.pricing import Interval
from service.domain.refusals import digest_of
from service.domain.spec import Resources
from service.domain.states import COUNTED, ENDED, State

QUOTA_EXCEEDED = "quota-exceeded"


def history(
    yard: PastYard,
    events: Sequence[Event],
    gaps: list[Interval],
    begin: datetime,
    end: datetime,
    *,
    before: Iterable[Event] = (),
    refused: Iterable[Event] = (),
    limits: Iterable[Event] = (),
    prices: Iterable[Event] = (),
) -> History:
    """Of the yard as it was at `begin` (it is taken along), and of the events after that: all of their jobs.

    `before` are the events of those jobs as far as `begin`; `limits` and `prices` those from the beginning.
    """
    made = History(begin, end, gaps=gaps, limits=list(limits), prices=list(prices))
    if yard.began is not None:
        made.yard.append(_beginning(yard.began, begin))
        if yard.stopped is not None:
            held = yard.began
            stop = ev.AdmissionSet(engine=held.engine, node=held.node, epoch=held.epoch, stopped=yard.stopped)
            made.yard.append(_beginning(stop, begin))
    of_yard = ev.SupervisorStarted | ev.AdmissionSet
    made.yard += [event for event in events if isinstance(event.body, of_yard)]
    runs = _by_run([*before, *events])
    for key, of_run in runs.items():
        piece = _piece(key, of_run, runs.get((key[0], key[1] + 1), []))
        over = piece.course.over if piece.course else None
        ended = piece.given_up.at if piece.given_up else None
        if piece.course and over is not None:
            ended = piece.course.placed_at + over
        if piece.asked[-1].at <= end and (ended is None or ended >= begin):
            made.pieces[key] = piece
    _with_refusals(made, refused)
    _with_lags(made, yard, events)
    estimated(made)
    return made


def _beginning(what: ev.SupervisorStarted | ev.AdmissionSet, at: datetime) -> Event:
    """The supervisor that was there already, as if it had begun just then; what it said, as if just then."""
    return Event(
        position=0,
        project=None,
        body=what,
        occurred_at=at,
        recorded_at=at,
        actor="",
        command_id=UUID(int=0),
    )


def _by_run(events: Iterable[Event]) -> dict[RunKey, list[Event]]:
    found: dict[RunKey, list[Event]] = defaultdict(list)
    for event in events:
        if (
            event.job is not None
            and event.run is not None
            and isinstance(event.body, ev.Move | ev.RunAdopted)
        ):
            found[event.job, event.run].append(event)
    return found


def _piece(key: RunKey, of_run: list[Event], following: list[Event]) -> Piece:
    first = of_run[0]
    body = first.body
    again = isinstance(body, ev.RunQueued)
    piece = Piece(
        key=key,
        project=first.project or "",
        name="",
        resources=Resources(body.kind, body.units, "", 0, 0, 0),
        digest="",
        asked=[Asked(first.recorded_at, first.position)],
        after=(key[0], key[1] - 1) if again else None,
        at_once=again and body.source is State.FINALIZING,
        queued_position=first.position,
    )
    if isinstance(body, ev.JobSubmitted):
        piece.name, piece.resources, piece.digest = body.spec.name, body.spec.resources, digest_of(body.spec)
    placed = next((event for event in of_run if isinstance(event.body, ev.RunPlaced)), None)
    if placed is not None:
        piece.course = _course(of_run, placed, following)
    else:
        over = next((event for event in of_run[1:] if event.body.target in ENDED), None)
        piece.given_up = Asked(over.recorded_at, over.position) if over else None
    return piece


def _course(of_run: list[Event], placed: Event, following: list[Event]) -> Course:
    bill = billing.evolve(None, of_run[0])
    for event in of_run[1:]:
        bill = billing.evolve(bill, event)
    moves = [
        event for event in of_run if isinstance(event.body, ev.Move) and event.position > placed.position
    ]
    # A run that restarts at its timeout has no end of its own: the next one's beginning is it.
    moves += [event for event in following[:1] if event.body.source is State.FINALIZING]
    uncounted = next((event for event in moves if event.body.target not in COUNTED), None)
    over = next((e for e in moves if e.body.target in ENDED or isinstance(e.body, ev.RunQueued)), None)
    begun = placed.recorded_at
    return Course(
        bill=bill,
        placed_at=begun,
        uncounted=uncounted.recorded_at - begun if uncounted else None,
        over=over.recorded_at - begun if over else None,
        engine=placed.body.engine,
        gpus=placed.body.gpus,
        positions=(
            placed.position,
            uncounted.position if uncounted else 0,
            over.position if over else 0,
        ),
    )


def _with_refusals(made: History, refused: Iterable[Event]) -> None:
    """Each refusal belongs to the next time that the same work was taken; what never was is one piece."""
    asked: dict[tuple[str, str], list[Event]] = defaultdict(list)
    taken: dict[tuple[str, str], list[Piece]] = defaultdict(list)
    for piece in made.pieces.values():
        if piece.key[1] > 1 and not piece.at_once:
            taken[piece.project, str(piece.key[0])].append(piece)
        elif piece.key[1] == 1:
            taken[piece.project, piece.digest].append(piece)
    for event in refused:
        if event.body.info.code == QUOTA_EXCEEDED and made.begin <= event.recorded_at <= made.end:
            what = str(event.job) if event.job else event.body.digest
            asked[event.project or "", what].append(event)
    for same, events in asked.items():
        for piece in taken[same]:
            taken_at = piece.asked[0].position
            own = [event for event in events if event.position < taken_at]
            events = [event for event in events if event.position >= taken_at]
            piece.asked[:0] = [Asked(event.recorded_at, event.position) for event in own]
        if events:
            piece = _never_taken(made, events)
            made.pieces[piece.key] = piece


def _never_taken(made: History, events: list[Event]) -> Piece:
    first = events[0]
    body: ev.SubmissionRefused = first.body
    runs = [key[1] for key in made.pieces if key[0] == first.job]
    after = (first.job, max(runs)) if first.job and runs else None
    key = (first.job, after[1] + 1) if first.job and after else (UUID(body.wanted or str(first.job)), 1)
    if any(known[0] == key[0] for known in made.pieces) and first.job is None:
        # What else was asked for with the same Idempotency-Key would have been the same job.
        key = (uuid5(key[0], body.digest), 1)
    return Piece(
        key=key,
        project=first.project or "",
        name=body.name,
        resources=body.resources,
        digest=body.digest,
        asked=[Asked(event.recorded_at, event.position) for event in events],
        taken=False,
        after=after,
        queued_position=first.position,
        labels=body.labels,
    )


def _with_lags(made: History, yard: PastYard, events: Sequence[Event]) -> None:
    """How long each run was being placed, found by planning the past again; and what later runs are of."""
    decided: dict[UUID, datetime] = {}
    within = [event for event in events if event.recorded_at <= made.end]
    end = made.end + timedelta(microseconds=1)
    for moment in walk(yard, within, made.gaps, made.begin, end):
        placing = {} if moment.plan is None else {each.job.id for each in moment.plan.placements}
        for job, since in decided.items():
            known = yard.jobs[job]
            piece = made.pieces.get((job, known.run))
            if known.state is not State.QUEUED and piece is not None and piece.course is not None:
                piece.course = _lagging(piece.course, since)
        decided = {job: decided.get(job, moment.at) for job in placing}
    for piece in made.pieces.values():
        row = yard.jobs.get(piece.key[0])
        if row is not None and not piece.name:
            piece.name, piece.resources, piece.digest = row.spec.name, row.spec.resources, digest_of(row.spec)


def _lagging(course: Course, decided: datetime) -> Course:
    return changed(course, lag=max(timedelta(), course.placed_at - decided))

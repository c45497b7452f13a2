"""`billing`: one row a run: its times, price, minutes and amount, and the events that prove them.

What the rows mean, and what a policy makes of them, is `service.domain.bills.run`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec.structs import replace

from projections.fold import Fold
from service.domain.bills.faults import fault_of
from service.domain.bills.run import ORDER, ZERO, Adjustment, Run, under
from service.domain.events import (
    BillCorrected,
    CreditGranted,
    Event,
    JobSubmitted,
    Move,
    RunAdopted,
    RunErrored,
    RunExited,
    RunPlaced,
    RunQueued,
)
from service.domain.ids import text_of
from service.domain.pricing import Interval, Marks
from service.domain.states import ENDED, State

#: Tuples, and not unions: these are asked of a million events.
CONCERNED = (Move, RunAdopted, CreditGranted, BillCorrected)
ORDERED = (CreditGranted, BillCorrected)
#: The moves by which nothing happens that is billed.
_BEGINNINGS = (JobSubmitted, RunQueued)
#: What may tell of a fault.
_ENDINGS = (RunErrored, RunExited)
#: The mark that a run has from its coming into a state.
_MARKED = {
    State.INITIALIZING: "initializing_at",
    State.PENDING: "pending_at",
    State.RUNNING: "running_at",
    State.FINALIZING: "finalizing_at",
}


def key(event: Event) -> str | None:
    if event.job is None or not isinstance(event.body, CONCERNED):
        return None
    return f"{text_of(event.job)}/{event.run}"


def evolve(row: Run | None, event: Event) -> Run:
    if isinstance(event.body, ORDERED):
        if row is None:
            raise ValueError(f"event {event.position}: {event.type} of a run that never was")
        return replace(row, ordered=(*row.ordered, ordered(event)))
    if isinstance(event.body, RunAdopted):
        if row is None:
            raise ValueError(f"event {event.position}: a run was adopted that had not begun")
        gap = Interval(event.body.absent_since, event.occurred_at)
        return under(replace(row, absences=(*row.absences, gap), positions=(*row.positions, event.position)))
    body: Move = event.body
    if row is None and isinstance(body, _BEGINNINGS):
        return _begun(event, body, (event.position,))
    begun = row or _begun(event, body)
    before = begun.marks
    changes: dict[str, Any] = {}
    if isinstance(body, RunPlaced):
        # A run is priced by the book in force when it was placed.
        changes = {"flavor": body.flavor, "hourly_price": body.hourly_price, "currency": body.currency}
    elif isinstance(body, _ENDINGS) and begun.fault is None:
        changes = {"fault": fault_of(event, begun.absences)}
    marks = _marked(before, body, event.occurred_at)
    changed = replace(begun, marks=marks, positions=(*begun.positions, event.position), **changes)
    # What is billed is settled once, as the window is over: what follows changes no time in it.
    return under(changed) if marks.are_over and not before.are_over else changed


def ordered(event: Event) -> Adjustment:
    """A credit or a correction as it stands beside the line."""
    body: CreditGranted | BillCorrected = event.body
    plain = Adjustment(
        kind="credit",
        rule=ORDER,
        amount=ZERO,
        currency=body.currency,
        reason=body.reason,
        at=event.occurred_at,
        position=event.position,
        cites=body.cites,
    )
    if isinstance(body, CreditGranted):
        return replace(plain, amount=-body.amount)
    corrected = {"minutes": body.minutes, "hourly_price": body.hourly_price}
    return replace(plain, kind="correction", amount=body.difference, **corrected)


def _begun(event: Event, body: Move, positions: tuple[int, ...] = ()) -> Run:
    return Run(
        job=text_of(event.job),
        run=event.run or 0,
        project=event.project or "",
        kind=body.kind,
        units=body.units,
        positions=positions,
    )


def _marked(marks: Marks, body: Move, at: datetime) -> Marks:
    """The first time each thing happened in this run."""
    if isinstance(body, _BEGINNINGS):
        return marks
    new: dict[str, Any] = {}
    name = _MARKED.get(body.target)
    if name is not None and getattr(marks, name) is None:
        new[name] = at
    elif body.target in ENDED:
        if marks.ended_at is None:
            new["ended_at"] = at
        if marks.outcome is None:
            new["outcome"] = body.target
    if body.source is State.RUNNING and body.target is not State.RUNNING and marks.left_running_at is None:
        new["left_running_at"] = at
    if isinstance(body, RunExited) and body.ended_at is not None and marks.finalizing_at is None:
        new["left_running_at"] = new["finalizing_at"] = body.ended_at
    return replace(marks, **new) if new else marks


FOLD = Fold("billing", Run, key, evolve, CONCERNED)

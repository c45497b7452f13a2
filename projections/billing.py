"""`billing`: one row a run: its times, price, minutes and amount, and the events that prove them."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec
from msgspec.structs import replace

from projections.fold import Fold
from service.domain.events import Event, JobSubmitted, Move, RunAdopted, RunErrored, RunPlaced, RunQueued
from service.domain.flavors import Kind
from service.domain.pricing import (
    DEFAULT_POLICY,
    Interval,
    Marks,
    PolicyName,
    amount,
    billed_minutes,
)
from service.domain.states import ENDED, State

ZERO = Decimal("0.000000")


class Run(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The bill of one run. `minutes` and `amount` are final once its billed window is over.

    `credited` is true for a run that our fault ended: its minutes are shown, its amount is nothing.
    `positions` are the events that the line stands on.
    """

    job: str
    run: int
    project: str
    kind: Kind
    units: int
    flavor: str = ""
    hourly_price: Decimal = Decimal(0)
    currency: str = ""
    marks: Marks = Marks()
    absences: tuple[Interval, ...] = ()
    policy: PolicyName = DEFAULT_POLICY
    minutes: int = 0
    amount: Decimal = ZERO
    credited: bool = False
    positions: tuple[int, ...] = ()


def key(event: Event) -> str | None:
    if isinstance(event.body, Move | RunAdopted):
        return f"{event.job}/{event.run}"
    return None


def evolve(row: Run | None, event: Event) -> Run:
    if isinstance(event.body, RunAdopted):
        if row is None:
            raise ValueError(f"event {event.position}: a run was adopted that had not begun")
        gap = Interval(event.body.absent_since, event.occurred_at)
        return under(replace(row, absences=(*row.absences, gap), positions=(*row.positions, event.position)))
    body: Move = event.body
    begun = row or _begun(event, body)
    changed = replace(
        begun,
        marks=_marked(begun.marks, body, event.occurred_at),
        positions=(*begun.positions, event.position),
    )
    return under(replace(changed, **_terms(body)))


def under(run: Run, policy: PolicyName | None = None) -> Run:
    """The same run as another policy bills it (None: the one it has)."""
    name = policy or run.policy
    minutes = billed_minutes(run.marks, run.absences, name)
    price = ZERO if run.credited else amount(minutes, run.units, run.hourly_price)
    return replace(run, policy=name, minutes=minutes, amount=price)


def _begun(event: Event, body: Move) -> Run:
    return Run(
        job=str(event.job), run=event.run or 0, project=event.project or "", kind=body.kind, units=body.units
    )


def _terms(body: Move) -> dict[str, Any]:
    """What the move says about the price: a run is priced by the book in force when it was placed."""
    match body:
        case RunPlaced():
            return {"flavor": body.flavor, "hourly_price": body.hourly_price, "currency": body.currency}
        case RunErrored():
            return {"credited": True}
        case _:
            return {}


def _marked(marks: Marks, body: Move, at: datetime) -> Marks:
    """The first time each thing happened in this run."""
    found: dict[str, Any] = {}
    if isinstance(body, JobSubmitted | RunQueued):
        return marks
    match body.target:
        case State.INITIALIZING:
            found["initializing_at"] = at
        case State.PENDING:
            found["pending_at"] = at
        case State.RUNNING:
            found["running_at"] = at
        case State.FINALIZING:
            found["finalizing_at"] = at
        case target if target in ENDED:
            found |= {"ended_at": at, "outcome": target}
    left = body.source is State.RUNNING and body.target is not State.RUNNING
    if left:
        found["left_running_at"] = at
    return replace(marks, **{name: value for name, value in found.items() if getattr(marks, name) is None})


FOLD = Fold("billing", Run, key, evolve)

"""`spend`: one row a project, with its budget, what its bill came to by month, and its live runs."""

from __future__ import annotations

from decimal import Decimal

from msgspec.structs import replace

from projections import billing
from projections.fold import Fold
from service.domain.bills.run import ZERO, Run
from service.domain.bills.statement import Month
from service.domain.budget import Budget, Spend, entries
from service.domain.events import (
    BillCorrected,
    BudgetSet,
    BudgetWarned,
    CreditGranted,
    Event,
    Move,
    RunAdopted,
    RunPlaced,
    RunQueued,
)
from service.domain.ids import text_of
from service.domain.states import ENDED, State

_OTHERS = (BudgetSet, BudgetWarned, CreditGranted, BillCorrected, RunAdopted)
#: From where a move costs nothing, unless it places the run.
_NOTHING_BEFORE = frozenset({None, State.QUEUED, *ENDED})


def key(event: Event) -> str | None:
    """What happens before a run is placed costs nothing: it leaves the row alone."""
    body = event.body
    if isinstance(body, Move):
        concerns = body.source not in _NOTHING_BEFORE or isinstance(body, RunPlaced)
        return event.project if concerns else None
    return event.project if isinstance(body, _OTHERS) else None


def evolve(row: Spend | None, event: Event) -> Spend:
    spend = row or Spend(project=event.project or "")
    match event.body:
        case BudgetSet() as body:
            return _budget(spend, body)
        case BudgetWarned() as body:
            before = spend.warned if spend.warned_month == body.period else ()
            return replace(spend, warned=(*before, body.share), warned_month=body.period)
        case CreditGranted() | BillCorrected():
            given = billing.ordered(event)
            return _added(spend, Month.of(given.at), given.currency, given.amount)
        case _:
            return _of_run(spend, event)


def _budget(spend: Spend, body: BudgetSet) -> Spend:
    """Another limit is reached anew; the shares of the same one that were warned of stay so."""
    budget = None if body.amount is None else Budget(body.amount, body.currency, body.warn_at)
    known = spend.budget
    same = (
        budget is not None
        and known is not None
        and (known.amount, known.currency) == (budget.amount, budget.currency)
    )
    return replace(spend, budget=budget, warned=spend.warned if same else ())


def _of_run(spend: Spend, event: Event) -> Spend:
    job, body = text_of(event.job), event.body
    if isinstance(body, RunPlaced):
        return _with(spend, job, billing.evolve(None, event))
    live = spend.live.get(job)
    if live is None:
        raise ValueError(f"event {event.position}: {event.type} of a run that was not placed")
    if isinstance(body, RunQueued):
        # The next run of a job that restarts at its timeout: the one before is over.
        return _closed(spend, job, live, event)
    live = billing.evolve(live, event)
    if isinstance(body, Move) and body.target in ENDED:
        return _closed(spend, job, live, event)
    return _with(spend, job, live)


def _with(spend: Spend, job: str, live: Run) -> Spend:
    return replace(spend, live=spend.live | {job: live})


def _closed(spend: Spend, job: str, live: Run, event: Event) -> Spend:
    """The run's amounts are added to their months."""
    spend = replace(spend, live={name: run for name, run in spend.live.items() if name != job})
    for entry in entries(live, event.occurred_at):
        spend = _added(spend, entry.month, live.currency, entry.amount)
    return spend


def _added(spend: Spend, month: Month, currency: str, amount: Decimal) -> Spend:
    if not amount:
        return spend
    known = spend.closed.get(str(month), {})
    of_month = known | {currency: known.get(currency, ZERO) + amount}
    return replace(spend, closed=spend.closed | {str(month): of_month})


FOLD = Fold("spend", Spend, key, evolve, (Move, *_OTHERS))

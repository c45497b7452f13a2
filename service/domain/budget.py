"""Budgets: what a project has spent in a month, and whether it may spend more.

Spent is what the month's statement comes to, credits and corrections included, and what the live runs would
add if they were over now (`bills.statement`): a run counts in the month in which its billed window ends;
while that is open, in the current one. Runs that go on are not stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from service.domain import commands as cmd
from service.domain import events as ev
from service.domain.bills import reading
from service.domain.bills.reading import MAX_BUDGET
from service.domain.bills.run import ZERO as ZERO
from service.domain.bills.run import Run, under
from service.domain.bills.statement import Month, ended_at
from service.errors import BudgetExceeded, Invalid

MOST = Decimal(MAX_BUDGET)
MOST_SHARES = 10
_STEP = Decimal("0.000001")
_SHARE_STEP = Decimal("0.0001")


class Budget(msgspec.Struct, frozen=True, rename="camel"):
    """At most `amount` a month; `events.BudgetSet` says what the fields mean."""

    amount: Decimal
    currency: str
    warn_at: tuple[Decimal, ...]


class Entry(NamedTuple):
    """An amount of a run, in the month in which it counts."""

    month: Month
    amount: Decimal


def entries(run: Run, now: datetime) -> tuple[Entry, ...]:
    """What a run costs, as a statement has it: its line, and beside it the credit when it was our fault.

    One whose window is open costs what it would if it ended now. What an overseer ordered is no part of it.
    """
    marks = run.marks
    over = ended_at(run)
    if over is None and marks.running_at is not None:
        run = under(replace(run, marks=replace(marks, finalizing_at=max(now, marks.running_at))))
    line = Entry(Month.of(over or now), run.amount)
    return (line,) if run.fault is None else (line, Entry(Month.of(run.fault.at), -run.amount))


class Spend(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A project's spending: of runs that ended, by month and currency; its live runs' bills, by job.

    `warned` are the shares of the present budget that `warned_month` has reached already.
    """

    project: str
    budget: Budget | None = None
    closed: dict[str, dict[str, Decimal]] = {}
    live: dict[str, Run] = {}
    warned: tuple[Decimal, ...] = ()
    warned_month: str = ""

    def spent(self, month: Month, currency: str, now: datetime) -> Decimal:
        """What counts in a month, in one currency."""
        live = (
            entry.amount
            for run in self.live.values()
            if run.currency == currency
            for entry in entries(run, now)
            if entry.month == month
        )
        return sum(live, self.closed.get(str(month), {}).get(currency, ZERO))

    def standing(self, now: datetime) -> Standing | None:
        """How the project stands at its budget; None when it has none."""
        if self.budget is None:
            return None
        month = Month.of(now)
        return Standing(
            project=self.project,
            budget=self.budget,
            month=month,
            spent=self.spent(month, self.budget.currency, now),
            warned=self.warned if self.warned_month == str(month) else (),
        )


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What was spent of a budget in the current month."""

    project: str
    budget: Budget
    month: Month
    spent: Decimal
    warned: tuple[Decimal, ...] = ()

    @property
    def remaining(self) -> Decimal:
        return max(self.budget.amount - self.spent, ZERO)

    def require(self, currency: str, *, scoped: bool = False) -> None:
        """Raise `BudgetExceeded` unless a run that is priced in `currency` may be begun.

        `scoped`: the asker sees not all of the project's jobs, and is not told what they cost.
        """
        budget = self.budget
        if currency != budget.currency:
            raise BudgetExceeded(
                f"the budget of project {self.project} is in {budget.currency}, and this job would be priced "
                f"in {currency}: it cannot be counted"
            )
        if self.spent < budget.amount:
            return
        until = f"{self.month.end:%Y-%m-%dT%H:%M:%SZ}"
        used_up = f"the budget of project {self.project} for {self.month} is used up"
        figures = f": {self.spent} of {budget.amount} {budget.currency} were spent"
        then = f"; new jobs are taken again from {until}, or when the budget is raised"
        raise BudgetExceeded(f"{used_up}{'' if scoped else figures}{then}", f"{used_up}{then}")

    def admits(self, currency: str) -> bool:
        return currency == self.budget.currency and self.spent < self.budget.amount

    def due(self) -> list[ev.BudgetWarned]:
        """The warnings that are to be given now: of each share that was reached and has none yet."""
        limit = self.budget.amount
        return [
            ev.BudgetWarned(
                share=share,
                spent=self.spent,
                limit=limit,
                currency=self.budget.currency,
                period=str(self.month),
            )
            for share in self.budget.warn_at
            if limit > 0 and self.spent >= share * limit and share not in self.warned
        ]


def budget_set(command: cmd.SetBudget) -> ev.BudgetSet:
    """The event of a checked order. Raises `Invalid`."""
    if command.amount is None:
        return ev.BudgetSet(amount=None, currency=command.currency)
    check_amount("amount", command.amount)
    currency = reading.currency("currency", command.currency)
    return ev.BudgetSet(
        amount=plain(command.amount), currency=currency, warn_at=_shares("warnAt", command.warn_at)
    )


def plain(given: Decimal) -> Decimal:
    """The same number, written out: without an exponent."""
    return Decimal(format(given, "f"))


def check_amount(field: str, given: Decimal) -> None:
    if not given.is_finite() or not 0 <= given <= MOST or given != given.quantize(_STEP):
        raise Invalid(field, str(given), f"an amount of money, 0 to {MOST}, with at most 6 decimals")


def _shares(field: str, given: Sequence[Decimal]) -> tuple[Decimal, ...]:
    if len(given) > MOST_SHARES:
        raise Invalid(field, f"{len(given)} shares", f"at most {MOST_SHARES}")
    for at, share in enumerate(given):
        if not share.is_finite() or not 0 < share <= 10 or share != share.quantize(_SHARE_STEP):
            raise Invalid(
                f"{field}[{at}]", str(share), "a share of the budget, such as 0.8; above 0, up to 10"
            )
    return tuple(sorted({plain(share) for share in given}))

"""A project's statement of one month: a line for each run whose billed window ended in it.

A month is one of UTC, and final once it is over: nothing that is recorded of a run later moves a line into
it, save what is reported late of a process that ended in it (its own time counts, not ours). A credit or a
correction counts in the month in which it was given, however old its run is; the run's own line shows it
too, and keeps its amount.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from service.domain.bills.run import ZERO, Adjustment, Run, under
from service.domain.flavors import Kind
from service.domain.pricing import DEFAULT_POLICY, PolicyName, absent, seconds, to_cents, window
from service.domain.states import State
from service.errors import Invalid

_MONTH = re.compile(r"\A([0-9]{4})-([0-9]{2})\Z")


class Month(NamedTuple):
    """A calendar month in UTC."""

    year: int
    month: int

    @classmethod
    def read(cls, field: str, text: str) -> Month:
        """Raises `Invalid` for what is no month."""
        found = _MONTH.match(text)
        if found is None or not 1 <= int(found[2]) <= 12 or not 2000 <= int(found[1]) <= 9998:
            raise Invalid(field, text, "a month from 2000-01 to 9998-12, such as 2026-11")
        return cls(int(found[1]), int(found[2]))

    @classmethod
    def of(cls, at: datetime) -> Month:
        there = at.astimezone(UTC)
        return cls(there.year, there.month)

    @property
    def start(self) -> datetime:
        return datetime(self.year, self.month, 1, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """The first moment after it."""
        years, month = divmod(self.month, 12)
        return datetime(self.year + years, month + 1, 1, tzinfo=UTC)

    def __str__(self) -> str:
        return f"{self.year:04}-{self.month:02}"


class AsOf(msgspec.Struct, frozen=True, rename="camel"):
    """Up to where the ledger was read, and the time that what still runs is reckoned to."""

    position: int
    time: datetime


class Line(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """One run. `amount` is the original one; `adjustments` are all credits and corrections of this run, of
    this month or later, and `net` is the amount with them. A run that was placed and never was RUNNING has
    no window, no minutes and no amount. Of the window, `absentSeconds` are left out."""

    job: str
    run: int
    flavor: str
    kind: Kind
    units: int
    hourly_price: Decimal
    currency: str
    window_start: datetime | None
    window_end: datetime | None
    absent_seconds: Decimal
    minutes: int
    amount: Decimal
    net: Decimal
    outcome: State | None
    positions: tuple[int, ...]
    adjustments: tuple[Adjustment, ...] = ()


class Given(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A credit or a correction that counts in this month. `job` and `run` are null for one of the whole
    project; `original` is what the run's line says, and `month` the statement that it stands on."""

    adjustment: Adjustment
    job: str | None = None
    run: int | None = None
    original: Decimal | None = None
    month: str | None = None


class Open(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A run that was not over at `asOf`, on the statement of that month: minutes and amount so far, in
    no total. Nothing so far while it is not known whether it will be billed: it has not been RUNNING yet."""

    job: str
    run: int
    flavor: str
    kind: Kind
    units: int
    hourly_price: Decimal
    currency: str
    since: datetime
    minutes: int
    amount: Decimal
    positions: tuple[int, ...]


class Total(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The sums of one currency: `toPay` is the total in cents, half to even. Credits are below nothing."""

    currency: str
    amount: Decimal
    credits: Decimal
    corrections: Decimal
    total: Decimal
    to_pay: Decimal


class Statement(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A project's month. `over`: at `asOf` the month had ended. Lines are in the order in which their windows
    ended."""

    project: str
    month: str
    policy: PolicyName
    as_of: AsOf
    over: bool
    lines: tuple[Line, ...]
    adjustments: tuple[Given, ...]
    open: tuple[Open, ...]
    totals: tuple[Total, ...]


def statement(
    project: str,
    month: Month,
    runs: Iterable[Run],
    credits: Iterable[Adjustment],
    as_of: AsOf,
    policy: PolicyName = DEFAULT_POLICY,
) -> Statement:
    """The statement of a month from the bills of a project's runs, as a policy bills them, and the credits
    that are the project's and no run's. Runs and credits of other months may be among them."""
    billed = [under(run, policy) for run in runs if run.marks.initializing_at is not None]
    lines = [_line(run) for run in billed if (at := ended_at(run)) is not None and Month.of(at) == month]
    given = [entry for run in billed for entry in _given(run, month)]
    given += [Given(adjustment=each) for each in credits if Month.of(each.at) == month]
    present = Month.of(as_of.time) == month
    return Statement(
        project=project,
        month=str(month),
        policy=policy,
        as_of=as_of,
        over=month.end <= as_of.time,
        lines=tuple(sorted(lines, key=_order)),
        adjustments=tuple(sorted(given, key=lambda each: each.adjustment.position)),
        open=tuple(_open(run, as_of.time) for run in billed if present and ended_at(run) is None),
        totals=totals(lines, [each.adjustment for each in given]),
    )


def ended_at(run: Run) -> datetime | None:
    """When a run's billed window ended, or, of one that is not billed, the run itself; None while open.

    It is the moment that decides on which statement the run stands.
    """
    billed = window(run.marks, run.policy)
    if billed is not None:
        return billed.end
    return None if run.marks.running_at is not None else run.marks.ended_at


def totals(lines: Iterable[Line], given: Iterable[Adjustment]) -> tuple[Total, ...]:
    """The sums by currency, in the order of their names."""
    sums: dict[str, dict[str, Decimal]] = defaultdict(
        lambda: {"line": ZERO, "credit": ZERO, "correction": ZERO}
    )
    for line in lines:
        sums[line.currency]["line"] += line.amount
    for each in given:
        sums[each.currency][each.kind] += each.amount
    found = []
    for currency, parts in sorted(sums.items()):
        total = sum(parts.values(), ZERO)
        found.append(
            Total(
                currency=currency,
                amount=parts["line"],
                credits=parts["credit"],
                corrections=parts["correction"],
                total=total,
                to_pay=to_cents(total),
            )
        )
    return tuple(found)


def _order(line: Line) -> tuple[datetime, str, int]:
    never = datetime.min.replace(tzinfo=UTC)
    return (line.window_end or never, line.job, line.run)


def _line(run: Run) -> Line:
    billed = window(run.marks, run.policy)
    return Line(
        job=run.job,
        run=run.run,
        flavor=run.flavor,
        kind=run.kind,
        units=run.units,
        hourly_price=run.hourly_price,
        currency=run.currency,
        window_start=billed.start if billed else None,
        window_end=billed.end if billed else None,
        absent_seconds=seconds(absent(run.marks, run.absences, run.policy)),
        minutes=run.minutes,
        amount=run.amount,
        net=run.net,
        outcome=run.marks.outcome,
        positions=run.positions,
        adjustments=run.adjustments,
    )


def _given(run: Run, month: Month) -> list[Given]:
    own = ended_at(run)
    return [
        Given(
            adjustment=each,
            job=run.job,
            run=run.run,
            original=run.amount,
            month=str(Month.of(own)) if own else None,
        )
        for each in run.adjustments
        if Month.of(each.at) == month
    ]


def so_far(run: Run, now: datetime) -> Run:
    """A run that is not over as if it ended now: what it is billed at least, if it is billed at all."""
    stopped = replace(run.marks, finalizing_at=now) if run.marks.running_at else run.marks
    return under(replace(run, marks=stopped))


def _open(run: Run, now: datetime) -> Open:
    reckoned = so_far(run, now)
    return Open(
        job=run.job,
        run=run.run,
        flavor=run.flavor,
        kind=run.kind,
        units=run.units,
        hourly_price=run.hourly_price,
        currency=run.currency,
        since=run.marks.initializing_at or now,
        minutes=reckoned.minutes,
        amount=reckoned.amount,
        positions=run.positions,
    )

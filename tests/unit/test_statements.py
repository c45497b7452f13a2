"""Statements: which month a run stands on, what stands beside it, and what is not over yet."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from service.domain.bills.book import PriceAsked, read_book
from service.domain.bills.compare import compared, sums
from service.domain.bills.faults import Fault
from service.domain.bills.run import Adjustment, Run, under
from service.domain.bills.statement import AsOf, Month, Statement, statement
from service.domain.pricing import POLICIES, Interval, Marks
from service.domain.states import State
from service.errors import Invalid

NEW_YEAR = datetime(2027, 1, 1, tzinfo=UTC)
DECEMBER, JANUARY = Month(2026, 12), Month(2027, 1)
LATER = AsOf(100, NEW_YEAR + timedelta(days=90))


def at(minutes: float) -> datetime:
    """So many minutes after the new year begins, in UTC."""
    return NEW_YEAR + timedelta(minutes=minutes)


def run(name: str = "a", number: int = 1, **changed: Any) -> Run:
    """A run of two units that was placed 60 minutes before the new year and RUNNING 50 before, until 10."""
    marks = {
        "initializing_at": at(-60),
        "pending_at": at(-55),
        "running_at": at(-50),
        "left_running_at": at(-10),
        "finalizing_at": at(-10),
        "ended_at": at(-9),
        "outcome": State.DONE,
    }
    found: dict[str, Any] = {name: changed.pop(name, value) for name, value in marks.items()}
    fields: dict[str, Any] = {"flavor": "ai1-1-cpu", "hourly_price": Decimal("0.03"), "currency": "EUR"}
    fields |= {"positions": (3, 4, 5)} | changed
    return under(Run(job=name, run=number, project="p", kind="cpu", units=2, marks=Marks(**found), **fields))


def credit(amount: str, when: datetime, position: int = 50, **changed: Any) -> Adjustment:
    fields: dict[str, Any] = {"kind": "credit", "rule": "order", "reason": "kindness", "currency": "EUR"}
    return Adjustment(**(fields | {"amount": Decimal(amount), "at": when, "position": position} | changed))


def of(month: Month, *runs: Run, credits: tuple[Adjustment, ...] = (), as_of: AsOf = LATER) -> Statement:
    return statement("p", month, runs, credits, as_of)


@pytest.mark.parametrize(
    "text", ["2026-13", "2026-00", "2026-1", "26-01", "2026-01-01", "", "9999-01", "٢٠٢٦-٠١"]
)
def test_what_is_no_month_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="a month from 2000-01 to 9998-12, such as 2026-11"):
        Month.read("month", text)


def test_a_month_ends_where_the_next_begins() -> None:
    assert (DECEMBER.end, JANUARY.start, str(JANUARY)) == (NEW_YEAR, NEW_YEAR, "2027-01")
    assert Month.read("month", "2026-12") == DECEMBER
    assert Month.of(datetime.fromisoformat("2027-01-01T00:30:00+01:00")) == DECEMBER


@pytest.mark.parametrize(("ended", "month"), [(-0.000001, DECEMBER), (0, JANUARY), (5, JANUARY)])
def test_a_run_stands_on_the_month_in_which_its_window_ended(ended: float, month: Month) -> None:
    moved = run(left_running_at=at(ended), finalizing_at=at(ended), ended_at=at(60 * 24 * 40))
    for each in (DECEMBER, JANUARY, Month(2027, 2)):
        assert [line.job for line in of(each, moved).lines] == (["a"] if each == month else [])


def test_each_policy_has_its_own_end_of_the_window() -> None:
    moved = run(left_running_at=at(-1), finalizing_at=at(1))
    found = {policy: statement("p", JANUARY, [moved], (), LATER, policy).lines for policy in POLICIES}
    assert {policy: len(lines) for policy, lines in found.items()} == {
        "2021-05": 1,
        "2023-12": 0,
        "2026-01": 0,
    }


def test_a_line_and_its_totals() -> None:
    (line,) = (made := of(DECEMBER, run())).lines
    assert (line.minutes, line.amount, line.net) == (50, Decimal("0.050000"), Decimal("0.050000"))
    assert (line.window_start, line.window_end, line.positions) == (at(-60), at(-10), (3, 4, 5))
    (total,) = made.totals
    assert (total.currency, total.total, total.to_pay) == ("EUR", Decimal("0.050000"), Decimal("0.05"))


def test_absences_are_told_and_left_out() -> None:
    (line,) = of(DECEMBER, run(absences=(Interval(at(-60), at(-45)),))).lines
    assert (line.absent_seconds, line.minutes) == (Decimal(600), 40)


def test_totals_are_by_currency_and_rounded_once() -> None:
    """Each line is a third of a cent: rounded one by one they would come to nothing."""
    thirds = [run(str(n), hourly_price=Decimal("0.002")) for n in range(3)]
    totals = of(DECEMBER, *thirds, run("d", currency="USD")).totals
    assert [(each.currency, each.to_pay) for each in totals] == [
        ("EUR", Decimal("0.01")),
        ("USD", Decimal("0.05")),
    ]


def test_what_never_ran_has_a_line_without_minutes_and_what_was_never_placed_has_none() -> None:
    nothing: dict[str, Any] = {"pending_at": None, "running_at": None, "left_running_at": None}
    failed = run("b", **nothing, outcome=State.FAILED)
    unplaced = run("c", **nothing, initializing_at=None, finalizing_at=None, outcome=State.INTERRUPTED)
    (line,) = of(DECEMBER, failed, unplaced).lines
    assert (line.job, line.window_start, line.minutes, line.amount) == ("b", None, 0, Decimal(0))
    assert of(DECEMBER, unplaced).open == ()


def test_what_is_not_over_is_shown_apart_and_in_no_total() -> None:
    on = run(left_running_at=None, finalizing_at=None, ended_at=None, outcome=None)
    waiting = run("b", running_at=None, left_running_at=None, finalizing_at=None, ended_at=None, outcome=None)
    made = of(DECEMBER, on, waiting, as_of=AsOf(9, at(-29.5)))
    assert (made.lines, made.totals, made.over) == ((), (), False)
    assert [(each.job, each.minutes, each.amount) for each in made.open] == [
        ("a", 31, Decimal("0.031000")),
        ("b", 0, Decimal(0)),
    ]


def test_what_runs_is_on_no_other_month_than_the_present() -> None:
    on = run(left_running_at=None, finalizing_at=None, ended_at=None, outcome=None)
    now = AsOf(9, at(5))
    assert [each.job for each in of(JANUARY, on, as_of=now).open] == ["a"]
    for month in (DECEMBER, Month(2027, 2)):
        assert of(month, on, as_of=now).open == ()


def test_our_fault_is_a_credit_beside_the_whole_line() -> None:
    fault = Fault("the run ended in ERROR", 9, at(-9))
    made = of(DECEMBER, run(fault=fault, outcome=State.ERROR))
    (line,) = made.lines
    assert (line.amount, line.net) == (Decimal("0.050000"), Decimal(0))
    (beside,) = line.adjustments
    assert (beside.kind, beside.rule, beside.amount) == ("credit", "platform-fault", Decimal("-0.050000"))
    assert (beside.cites, beside.at) == ((9,), at(-9))
    assert [(each.job, each.original) for each in made.adjustments] == [("a", Decimal("0.050000"))]
    (total,) = made.totals
    assert (total.amount, total.credits, total.total) == (
        Decimal("0.050000"),
        Decimal("-0.050000"),
        Decimal(0),
    )


def test_our_fault_at_what_cost_nothing_needs_no_credit() -> None:
    fault = Fault("the run ended in ERROR", 9, at(-9))
    nothing: dict[str, Any] = {"running_at": None, "left_running_at": None, "finalizing_at": None}
    (line,) = of(DECEMBER, run(fault=fault, outcome=State.ERROR, **nothing)).lines
    assert (line.adjustments, line.net) == ((), Decimal(0))


def test_what_is_given_later_counts_then_and_leaves_the_month_of_the_run_as_it_was() -> None:
    before = of(DECEMBER, run())
    given = run(ordered=(credit("-0.02", at(60)), credit("0.01", at(61), 51, kind="correction")))
    december, january = of(DECEMBER, given), of(JANUARY, given)
    assert december.totals == before.totals
    (line,) = december.lines
    assert (line.amount, line.net, len(line.adjustments)) == (Decimal("0.050000"), Decimal("0.040000"), 2)
    assert january.lines == ()
    assert [(each.job, each.month, each.original) for each in january.adjustments] == [
        ("a", "2026-12", Decimal("0.050000"))
    ] * 2
    (total,) = january.totals
    assert (total.credits, total.corrections, total.to_pay) == (
        Decimal("-0.02"),
        Decimal("0.01"),
        Decimal("-0.01"),
    )


def test_a_credit_of_the_project_stands_alone() -> None:
    made = of(JANUARY, credits=(credit("-5", at(1)), credit("-7", at(-1))))
    assert [(each.job, each.adjustment.amount) for each in made.adjustments] == [(None, Decimal(-5))]
    assert made.totals[0].to_pay == Decimal("-5.00")


def test_a_month_is_over_when_it_has_ended() -> None:
    assert not of(DECEMBER, as_of=AsOf(1, NEW_YEAR - timedelta(microseconds=1))).over
    assert of(DECEMBER, as_of=AsOf(1, NEW_YEAR)).over


def test_another_price_of_no_minutes_is_no_difference() -> None:
    never: dict[str, Any] = {"running_at": None, "left_running_at": None, "finalizing_at": None}
    for free, price, differs in (
        (run(**never), "0.05", False),
        (run(), "0.05", True),
        (run(), "0.03", False),
    ):
        asked = PriceAsked(flavor=free.flavor, hourly_price=price, valid_from="2000-01-01")
        line = compared(free, free, "2021-05", read_book("priceBook", [asked], "EUR"))
        assert line.differs == differs == bool(line.difference)
    (summed,) = sums([compared(run(), run(hourly_price=Decimal("0.029999")), "2021-05", None)])
    assert (summed.difference < 0, str(summed.difference_to_pay)) == (True, "0.00")

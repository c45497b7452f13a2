"""Minutes and amounts: the published examples, exact boundaries, the three policies, absences, credit."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from service.domain import events as ev
from service.domain.bills.run import Run, under
from service.domain.directory import PriceBook, PriceEntry
from service.domain.pricing import (
    POLICIES,
    Interval,
    Marks,
    PolicyName,
    amount,
    billed_minutes,
    to_cents,
    window,
)
from service.domain.states import State
from tests.support import jobs
from tests.support.jobs import CODE_1, DONE, JOB, Bodies, minutes
from tests.support.specification import Given, folded, given
from tests.unit.histories import FINALIZING, HISTORIES, INITIALIZING, INTERRUPTING, PENDING, TIMEOUT, B

S = State


def test_the_published_examples() -> None:
    ten_days = 10 * 24 * 60
    assert to_cents(amount(ten_days, 2, Decimal("0.03"))) == Decimal("14.40")
    assert to_cents(amount(5 * 60, 2, Decimal("1.93"))) == Decimal("19.30")


def ran(**seconds: float) -> Marks:
    """A run by the second in which it got anywhere."""
    return Marks(**{name: jobs.T0 + timedelta(seconds=at) for name, at in seconds.items()})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "begun"),
    [(0, 0), (0.000001, 1), (59.999999, 1), (60, 1), (60.000001, 2), (120, 2), (604_800, 10_080)],
)
def test_begun_minutes_at_their_boundaries(seconds: float, begun: int) -> None:
    marks = ran(initializing_at=0, pending_at=0, running_at=0, left_running_at=seconds, finalizing_at=seconds)
    for policy in POLICIES:
        assert billed_minutes(marks, (), policy) == begun


#: INITIALIZING 0:00, PENDING 10:00, RUNNING 20:00, the order 50:00, FINALIZING 55:00, the end 99:00.
WHOLE = ran(
    initializing_at=0,
    pending_at=600,
    running_at=1200,
    left_running_at=3000,
    finalizing_at=3300,
    ended_at=5940,
)


@pytest.mark.parametrize(("policy", "begun"), [("2021-05", 55), ("2023-12", 30), ("2026-01", 40)])
def test_what_each_policy_bills(policy: PolicyName, begun: int) -> None:
    assert billed_minutes(WHOLE, (), policy) == begun


@pytest.mark.parametrize("policy", POLICIES)
def test_a_run_that_never_ran_or_is_not_over_is_not_billed(policy: PolicyName) -> None:
    assert window(ran(initializing_at=0, pending_at=60, finalizing_at=120), policy) is None
    assert window(ran(initializing_at=0, pending_at=60, running_at=120), policy) is None
    assert billed_minutes(ran(initializing_at=0, finalizing_at=120, ended_at=130), (), policy) == 0


def away(start_s: float, end_s: float) -> Interval:
    return Interval(jobs.T0 + timedelta(seconds=start_s), jobs.T0 + timedelta(seconds=end_s))


@pytest.mark.parametrize(
    ("gaps", "lost"),
    [
        ([away(0, 600)], 10),  # all of INITIALIZING
        ([away(-600, 300)], 5),  # only what is billed
        ([away(1200, 3000)], 0),  # the container ran: worth its price
        ([away(900, 1500)], 5),  # before RUNNING counts, in RUNNING does not
        ([away(2700, 3300)], 5),  # after the order, before FINALIZING
        ([away(3300, 9999)], 0),  # nothing is billed then
        ([away(0, 300), away(600, 900)], 10),
        ([away(0, 300), away(120, 480)], 8),  # two supervisors died at the same gap: lost once
        ([away(0, 600), away(60, 120), away(0, 600)], 10),
        ([away(-99_999, 99_999)], 25),
    ],
)
def test_absences_count_once_and_only_outside_running(gaps: list[Interval], lost: int) -> None:
    for order in (gaps, gaps[::-1]):
        assert billed_minutes(WHOLE, order, "2021-05") == 55 - lost


def test_absences_never_make_a_bill_negative() -> None:
    everything = [away(-1, 9999)] * 5
    for policy in POLICIES:
        assert billed_minutes(WHOLE, everything, policy) == 30  # what RUNNING lasted


def test_amounts_are_rounded_half_to_even_at_a_millionth() -> None:
    assert amount(1, 1, Decimal("0.00003")) == Decimal("0.000000")  # 0.0000005
    assert amount(1, 1, Decimal("0.00009")) == Decimal("0.000002")  # 0.0000015
    assert amount(1, 3, Decimal("1.93")) == Decimal("0.096500")
    assert to_cents(Decimal("0.125")) == Decimal("0.12")
    assert to_cents(Decimal("0.135")) == Decimal("0.14")
    assert str(to_cents(Decimal("-0.000834"))) == "0.00"
    assert str(to_cents(Decimal("-0.006"))) == "-0.01"


# -- the fold ---------------------------------------------------------------------------------------


def bill(*bodies: Given) -> Run:
    """The bill of the first run after these bodies, a minute each."""
    run = folded(given(*bodies).events).get("billing", f"{JOB}/1")
    assert isinstance(run, Run)
    return run


def test_a_run_is_billed_at_the_price_of_its_placing() -> None:
    raised = ev.PricesSet(prices={"ai1-1-cpu": Decimal(100)}, valid_from=minutes(3))
    run = bill(*INITIALIZING, raised, B.prepared(), B.started(minutes(5)), *_exit())
    assert (run.hourly_price, run.flavor, run.currency) == (Decimal("0.03"), "ai1-1-cpu", "EUR")
    assert (run.minutes, run.amount) == (4, Decimal("0.002000"))
    assert not run.credited


def _exit(outcome: State = S.DONE) -> tuple[Given, ...]:
    return (B.exited(S.RUNNING, outcome, DONE if outcome is S.DONE else CODE_1), B.finalized(outcome, DONE))


def test_the_positions_prove_the_line() -> None:
    assert bill(*PENDING, B.started(minutes(4)), *_exit()).positions == (3, 4, 5, 6, 7, 8)


@pytest.mark.parametrize(
    ("bodies", "minutes_billed"),
    [
        (FINALIZING, 3),
        ((*INTERRUPTING, B.exited(S.INTERRUPTING, S.INTERRUPTED, DONE)), 4),
        ((*TIMEOUT, B.exited(S.TIMEOUT, S.INTERRUPTED, DONE)), 4),
        ((*PENDING, B.aborted(S.PENDING, S.FAILED)), 0),
        ((*INITIALIZING, B.aborted(S.INITIALIZING, S.FAILED)), 0),
    ],
)
def test_bills_by_the_way_a_run_ended(bodies: tuple[Given, ...], minutes_billed: int) -> None:
    assert bill(*bodies).minutes == minutes_billed


@pytest.mark.parametrize("state", [S.QUEUED, S.INITIALIZING, S.PENDING, S.RUNNING])
def test_our_fault_is_shown_and_credited(state: State) -> None:
    run = bill(*HISTORIES[state], B.errored(state))
    assert run.credited
    assert run.amount == (Decimal("0.001500") if state is S.RUNNING else 0)
    assert run.minutes == (3 if state is S.RUNNING else 0)
    for policy in POLICIES:
        assert under(run, policy).net == 0


def test_policies_from_one_history() -> None:
    run = bill(*INTERRUPTING, B.exited(S.INTERRUPTING, S.INTERRUPTED, DONE))
    found = {policy: under(run, policy).minutes for policy in POLICIES}
    assert found == {"2021-05": 4, "2023-12": 1, "2026-01": 2}


def test_each_run_is_billed_by_itself() -> None:
    again = (*PENDING, B.started(minutes(4)), *_exit(), B.queued_again(S.DONE))
    rows = folded(given(*again, B.placed(), B.prepared(), B.started(minutes(10)), *_exit()).events)
    first, second = rows.get("billing", f"{JOB}/1"), rows.get("billing", f"{JOB}/2")
    assert (first.run, first.minutes, second.run, second.minutes) == (1, 3, 2, 3)


def test_gpus_are_billed_as_gpus() -> None:
    g = Bodies(jobs.spec(kind="gpu", units=2))
    bodies = (g.submitted(), g.placed(), g.prepared(), g.started(minutes(4)))
    run = bill(*bodies, (minutes(302), g.exited(S.RUNNING, S.DONE, DONE)))
    assert (run.minutes, to_cents(run.amount)) == (300, Decimal("19.30"))


# -- the price book ---------------------------------------------------------------------------------


def entry(position: int, valid_from: datetime, **prices: str) -> PriceEntry:
    return PriceEntry(
        valid_from=valid_from,
        prices={name: Decimal(price) for name, price in prices.items()},
        currency="EUR",
        position=position,
    )


def test_the_price_in_force() -> None:
    book = PriceBook(
        (entry(1, minutes(0), a="1"), entry(2, minutes(20), a="3"), entry(3, minutes(10), a="2", b="9"))
    )
    for at, price in ((0, "1"), (9.99, "1"), (10, "2"), (19.99, "2"), (20, "3"), (99, "3")):
        assert book.price("a", minutes(at)) == (Decimal(price), "EUR")
    assert book.price("a", minutes(-1)) is None
    assert book.price("b", minutes(9)) is None
    assert book.price("b", minutes(99)) == (Decimal(9), "EUR")
    assert book.price("c", minutes(99)) is None


def test_a_correction_of_the_same_moment_wins() -> None:
    book = PriceBook((entry(1, minutes(0), a="1"), entry(2, minutes(0), a="2")))
    assert book.price("a", minutes(0)) == (Decimal(2), "EUR")

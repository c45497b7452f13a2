"""Whose fault an end was, what may be ordered beside a bill, and how a bill is explained."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from service.domain import commands as cmd
from service.domain import events as ev
from service.domain.bills.book import listed
from service.domain.bills.explain import Explanation, explained
from service.domain.bills.run import Adjustment, Run, under
from service.domain.bills.statement import AsOf, Month, statement
from service.domain.directory import PriceBook, PriceEntry
from service.domain.pricing import POLICIES
from service.domain.states import State
from service.errors import Conflict, Invalid, NotFound, WrongState
from tests.support import jobs
from tests.support.jobs import CODE_1, DONE, JOB, PROJECT, TIMED_OUT, minutes
from tests.support.specification import Given, Specification, folded, given
from tests.unit.histories import FINALIZING, INITIALIZING, INTERRUPTING, PENDING, RUNNING, TIMEOUT, B

S = State


def bill(spec: Specification, run: int = 1) -> Run:
    found = folded(spec.events).get("billing", f"{JOB}/{run}")
    assert isinstance(found, Run)
    return found


# -- our faults -------------------------------------------------------------------------------------


def adopted(since: float, at: float) -> Given:
    return (minutes(at), ev.RunAdopted(engine="e", epoch=8, absent_since=minutes(since)))


def exited(at: float, code: int = 137, *, oom: bool = False, source: State = S.RUNNING) -> Given:
    return (minutes(at), B.exited(source, S.FAILED, CODE_1, code, oom=oom))


#: The container of RUNNING started in minute 4.
@pytest.mark.parametrize(
    ("after", "lost"),
    [
        ((adopted(10, 20), exited(15)), True),
        ((adopted(10, 20), exited(10)), True),
        ((adopted(10, 20), exited(20)), True),
        ((adopted(10, 20), exited(9.99)), False),  # it was killed before we went
        ((adopted(10, 20), exited(20.01)), False),  # or after we came back
        ((adopted(10, 20), exited(15, 0)), False),  # it ended by itself
        ((adopted(10, 20), exited(15, 143)), False),
        ((adopted(10, 20), exited(15, oom=True)), False),  # it ran out of its own memory
        ((exited(15),), False),  # somebody was there
        ((adopted(5, 6), adopted(10, 20), exited(15)), True),
        ((adopted(5, 6), adopted(10, 20), exited(8)), False),
    ],
)
def test_a_node_that_was_lost_is_our_fault(after: tuple[Given, ...], lost: bool) -> None:
    run = bill(given(*RUNNING, *after))
    assert run.credited == lost
    assert (run.net == 0) == lost
    assert run.amount > 0
    for policy in POLICIES:
        other = under(run, policy)
        assert (other.net == 0) == lost and other.amount > 0


@pytest.mark.parametrize(
    ("code", "since", "lost"),
    [(137, 4.2, True), (137, 4.5, True), (137, 4.51, False), (0, 4.2, False), (1, 4.2, False)],
)
def test_an_engine_that_was_lost_is_our_fault(code: int, since: float, lost: bool) -> None:
    """Its supervisor was there, and says since when it had not answered."""
    running = given(*RUNNING)
    order = jobs.exited(minutes(4.5), code, engine_away_since=minutes(since))
    after = running.when(order, at=minutes(11)).after
    assert after.events[-1].body.engine_away_since == minutes(since)
    (run, reason) = bill(after), "it was killed while the engine did not answer"
    assert run.credited == lost
    assert any(reason in each for each in texts(after)) == lost


def test_an_end_that_nobody_knows_is_no_timeout_though_that_was_past_when_the_engine_was_back() -> None:
    """The engine dates what it missed by its own return. What is known is when the process was last seen."""
    running = given(*RUNNING)
    late = minutes(10_000)
    order = jobs.exited(late, 255, engine_away_since=minutes(4.5), unknown=True)
    after = running.when(order, at=minutes(10_001)).after
    assert [event.type for event in after.events[-2:]][-1] == "RunExited"
    assert "TimeoutReached" not in [event.type for event in after.events]
    exited = after.events[-1]
    assert (exited.occurred_at, exited.body.outcome) == (minutes(4.5), S.FAILED)
    assert bill(after).credited


@pytest.mark.parametrize("unknown", [True, False])
def test_an_end_that_nobody_knows_is_our_fault(unknown: bool) -> None:
    """And it is told so; a process that says of itself what the engine says then is billed."""
    order = jobs.exited(minutes(4.5), 255, engine_away_since=minutes(4), unknown=unknown)
    after = given(*RUNNING).when(order, at=minutes(11)).after
    assert bill(after).credited == unknown
    assert after.events[-1].body.info.code == ("unknown-outcome" if unknown else "exit-code")
    assert after.events[-1].body.outcome == S.FAILED


@pytest.mark.parametrize(("code", "oom", "fault"), [(0, False, True), (143, False, True), (137, True, False)])
def test_who_was_told_to_stop_by_no_order_is_not_done_and_does_not_pay(
    code: int, oom: bool, fault: bool
) -> None:
    order = jobs.exited(minutes(4.5), code, oom=oom, stopped_outside=True)
    after = given(*RUNNING).when(order, at=minutes(11)).after
    assert bill(after).credited == fault
    assert after.events[-1].body.info.code == ("stopped-outside" if fault else "out-of-memory")
    assert after.events[-1].body.outcome == S.FAILED


def test_an_order_to_stop_goes_before_what_else_told_it_to() -> None:
    order = jobs.exited(minutes(6), 0, stopped_outside=True)
    after = given(*INTERRUPTING).when(order, at=minutes(11)).after
    assert after.events[-1].body.outcome == S.INTERRUPTED
    assert not bill(after).credited


def test_who_was_being_stopped_was_not_lost() -> None:
    killed = exited(15, source=S.INTERRUPTING)
    assert not bill(given(*INTERRUPTING, adopted(10, 20), killed)).credited
    timed_out = (*RUNNING, (minutes(12), B.timed_out()), adopted(10, 20), exited(15, source=S.TIMEOUT))
    assert not bill(given(*timed_out)).credited


def test_the_credit_cites_the_event_that_it_is_for() -> None:
    spec = given(*RUNNING, adopted(10, 20), exited(15))
    (credit,) = bill(spec).adjustments
    assert (credit.rule, credit.amount, credit.at) == ("platform-fault", -bill(spec).amount, minutes(15))
    assert credit.cites == (spec.events[-1].position,)


# -- what is ordered --------------------------------------------------------------------------------

#: Placed in minute 2, ended in 10: 8 minutes of one CPU at 0.03, which is 0.004.
ENDED = (*RUNNING, (minutes(10), B.exited(S.RUNNING, S.DONE, DONE)), B.finalized(S.DONE, DONE))
OF_RUN: dict[str, Any] = {"project": PROJECT, "job": JOB, "run": 1, "reason": "so it is"}


def credit(amount: str, **changed: Any) -> cmd.GrantCredit:
    fields = OF_RUN | {"amount": Decimal(amount), "currency": "EUR"} | changed
    return cmd.GrantCredit(**fields)


def correct(**changed: Any) -> cmd.CorrectBill:
    return cmd.CorrectBill(**(OF_RUN | changed))


def granted(amount: str, cites: tuple[int, ...] = ()) -> ev.CreditGranted:
    return ev.CreditGranted(amount=Decimal(amount), currency="EUR", reason="so it is", cites=cites)


def corrected(before: str, after: str, difference: str, **more: Any) -> ev.BillCorrected:
    return ev.BillCorrected(
        before=Decimal(before),
        corrected=Decimal(after),
        difference=Decimal(difference),
        currency="EUR",
        reason="so it is",
        **more,
    )


def test_a_credit_stands_beside_its_run() -> None:
    after = given(*ENDED).when(credit("0.001", cites=(3,))).then(granted("0.001", cites=(3,)))
    (event,) = after.events[-1:]
    assert (event.project, event.job, event.run) == (PROJECT, JOB, 1)
    assert (bill(after).amount, bill(after).net) == (Decimal("0.004000"), Decimal("0.003000"))
    after.when(credit("0.003001")).refused(Invalid, "the run costs 0.003000")
    assert bill(after.when(credit("0.003")).then(granted("0.003"))).net == 0


def test_a_credit_of_the_project_is_no_runs() -> None:
    after = given(*ENDED).when(credit("7", job=None, run=None)).then(granted("7"))
    assert bill(after).net == Decimal("0.004000")
    row = folded(after.events).get("credits", str(after.events[-1].position))
    assert (row.project, row.adjustment.amount) == (PROJECT, Decimal(-7))


def test_a_correction_is_the_difference_to_what_the_line_comes_to() -> None:
    once = (
        given(*ENDED)
        .when(correct(minutes=4))
        .then(corrected("0.004000", "0.002000", "-0.002000", minutes=4, hourly_price=Decimal("0.03")))
    )
    price = Decimal("0.06")
    # Of the 4 minutes: what a correction does not name is as the last one left it.
    twice = once.when(correct(hourly_price=price)).then(
        corrected("0.002000", "0.004000", "0.002000", minutes=4, hourly_price=price)
    )
    thrice = twice.when(correct(amount=Decimal("0.001"))).then(corrected("0.004000", "0.001", "-0.003000"))
    thrice.when(correct(minutes=2)).then(
        corrected("0.001000", "0.002000", "0.001000", minutes=2, hourly_price=price)
    )
    run = bill(thrice)
    assert (run.minutes, run.amount, run.net) == (8, Decimal("0.004000"), Decimal("0.001000"))
    thrice.when(correct(amount=Decimal("0.001"))).refused(Conflict, "comes to 0.001000 EUR already")


def test_a_correction_of_before_that_named_one_thing_left_the_other_as_in_the_line() -> None:
    price, line = Decimal("0.06"), bill(given(*ENDED))
    plain = Adjustment(
        kind="correction",
        rule="order",
        amount=Decimal(1),
        currency="EUR",
        reason="so it is",
        at=minutes(12),
        position=9,
    )
    for old, left in (
        (replace(plain, hourly_price=price), (8, price)),
        (replace(plain, minutes=4), (4, Decimal("0.03"))),
        (plain, (8, Decimal("0.03"))),
    ):
        assert replace(line, ordered=(old,)).corrected_to == left


def test_orders_that_are_refused() -> None:
    ended = given(*ENDED)
    ended.when(credit("0.001", run=2)).refused(NotFound, "there is no run 2")
    ended.when(credit("0.001", project="other")).refused(NotFound, "there is no project other")
    ended.when(credit("0.001", currency="USD")).refused(Invalid, "the run is billed in EUR")
    ended.when(credit("NaN")).refused(Invalid, "amount")
    ended.when(credit("0.0000001")).refused(Invalid, "at most 6 digits")
    ended.when(credit("0.001", reason="")).refused(Invalid, "1 to 500 characters")
    ended.when(credit("0.001", cites=(1, 1))).refused(Invalid, "each once")
    ended.when(correct(hourly_price=Decimal("1E-10"))).refused(Invalid, "at most 9 digits")
    given(*RUNNING).when(credit("0.001")).refused(WrongState, "not over")
    given(*RUNNING, B.errored(S.RUNNING)).when(correct(minutes=1)).refused(WrongState, "credited in full")
    after = ended.when(credit("0.003")).then(granted("0.003"))
    after.when(correct(minutes=1)).refused(Invalid, "cost less than nothing")


def test_nothing_is_ordered_of_a_run_that_may_still_be_our_fault() -> None:
    """While its volumes are pushed it may end in ERROR, and then the rule gives all of it back."""
    pushing = given(*FINALIZING)
    for order in (credit("0.001"), correct(minutes=9)):
        pushing.when(order).refused(WrongState, "its bill is final when its volumes are pushed")
    lost = given(*FINALIZING, B.errored(S.FINALIZING))
    lost.when(credit("0.001")).refused(Invalid, "the run costs 0.000000")
    assert bill(lost).net == 0
    given(*FINALIZING, B.finalized(S.DONE, DONE)).when(credit("0.001")).then(granted("0.001"))


def test_a_run_that_was_restarted_is_over_whatever_the_next_one_does() -> None:
    """It never ended by itself: the next one was queued."""
    again = (*TIMEOUT, B.exited(S.TIMEOUT, S.INTERRUPTED, TIMED_OUT), B.queued_again(S.FINALIZING))
    queued = given(*again)
    queued.when(credit("0.001")).then(granted("0.001"))
    pushing = (*again, B.placed(), B.prepared(), (minutes(12), B.started(minutes(12))))
    ends = given(*pushing, B.exited(S.RUNNING, S.DONE, DONE))
    ends.when(credit("0.001")).then(granted("0.001"))
    ends.when(credit("0.001", run=2)).refused(WrongState, "its bill is final")


def test_a_run_that_was_never_placed_has_nothing_to_correct() -> None:
    never = given(B.submitted(), B.interrupted(S.QUEUED, S.INTERRUPTED))
    for order in (correct(amount=Decimal(5)), credit("0.001", currency="")):
        never.when(order).refused(WrongState, "was never placed")


def test_a_price_that_is_ordered_has_a_source_and_few_digits() -> None:
    prices = {"ai1-1-cpu": Decimal("0.0000000001")}
    order = cmd.SetPrices(prices=prices, currency="EUR", source="order")
    given().when(order).refused(Invalid, "at most 9 digits after the point")
    fine = cmd.SetPrices(
        prices={"ai1-1-cpu": Decimal(1)}, currency="EUR", source="order", valid_from=minutes(9)
    )
    given().when(fine).then(
        ev.PricesSet(prices={"ai1-1-cpu": Decimal(1)}, valid_from=minutes(9), source="order")
    )


def test_the_catalogue_s_last_word_is_not_an_order_s() -> None:
    def entry(position: int, price: str, source: Any) -> PriceEntry:
        return PriceEntry(minutes(position), {"a": Decimal(price)}, "EUR", position, source)

    book = PriceBook((entry(1, "1", "catalogue"), entry(2, "2", "catalogue"), entry(3, "3", "order")))
    assert book.of_the_catalogue("a") == (Decimal(2), "EUR")
    assert book.of_the_catalogue("b") is None
    assert [(e.entry.position, e.until, e.in_force) for e in listed(book, minutes(2.5))] == [
        (1, minutes(2), False),
        (2, minutes(3), True),
        (3, None, False),
    ]


# -- explanations -----------------------------------------------------------------------------------


def told(spec: Specification) -> Explanation:
    book = folded(spec.events).get("prices", "book")
    return explained(bill(spec), spec.events, book, spec.next_at)


def texts(spec: Specification) -> list[str]:
    return [each.text for each in told(spec).sentences]


def test_an_explanation_is_a_reckoning() -> None:
    spec = given(*ENDED)
    found = told(spec)
    assert texts(spec) == [
        "The run was placed at 2026-01-01T00:02:00Z with 1 unit of ai1-1-cpu, at 0.03 EUR per hour and unit: "
        "the price book's entry of that moment, valid from 2026-01-01T00:00:00Z.",
        "It was INITIALIZING from 2026-01-01T00:02:00Z on, PENDING from 2026-01-01T00:03:00Z on, "
        "RUNNING from 2026-01-01T00:04:00Z on, FINALIZING from 2026-01-01T00:10:00Z on, "
        "DONE from 2026-01-01T00:11:00Z on.",
        "Policy 2021-05 bills from INITIALIZING to FINALIZING: from 2026-01-01T00:02:00Z to "
        "2026-01-01T00:10:00Z, which is 8 min.",
        "8 min are exactly 8 minutes.",
        "8 minutes x 1 unit x 0.03 EUR / 60 = 0.004000 EUR.",
        "The run costs 0.004000 EUR, and stands on the statement of 2026-01.",
    ]
    assert [each.positions for each in found.sentences] == [(4, 2), (4, 5, 6, 7, 8), (4, 7), (), (), ()]


def test_a_run_that_is_not_over_costs_so_far_what_its_statement_says() -> None:
    spec = given(*RUNNING)
    found, run, now = told(spec), bill(spec), spec.next_at
    (listed,) = statement("default", Month.of(now), [run], [], AsOf(position=9, time=now)).open
    assert (found.over, found.minutes, found.amount) == (False, listed.minutes, listed.amount)
    assert found.amount > 0 == run.amount
    assert texts(spec)[-2:] == [
        "3 minutes x 1 unit x 0.03 EUR / 60 = 0.001500 EUR.",
        "The run costs 0.001500 EUR so far.",
    ]
    assert told(given(*ENDED)).over
    waiting = told(given(*PENDING))
    assert (waiting.over, waiting.minutes, waiting.amount) == (False, 0, Decimal(0))


def test_what_is_left_out_and_what_is_not() -> None:
    spec = given(
        *INITIALIZING,
        adopted(2, 2.5),
        adopted(2.25, 2.75),
        (minutes(3), B.prepared()),
        (minutes(4), B.started(minutes(4))),
        adopted(5, 6),
        (minutes(10) + timedelta(seconds=1), B.exited(S.RUNNING, S.DONE, DONE)),
    )
    said = texts(spec)
    assert said[3].endswith("; 30 s of it are left out.")
    assert said[4].endswith("; 30 s of it are left out.")
    assert "; nothing of it is left out: a container that runs is worth its price" in said[5]
    assert said[6] == "Each moment counts once, so together that leaves 45 s out."
    assert said[7] == (
        "7 min 16 s are 7 full minutes and 16 s of another, which counts whole: 8 begun minutes."
    )


def test_what_is_rounded_is_told() -> None:
    price = {"ai1-1-cpu": Decimal("0.031")}
    placed = ev.RunPlaced(
        **{f: getattr(B.placed(), f) for f in B.placed().__struct_fields__}
        | {"hourly_price": Decimal("0.031")}
    )
    spec = given(jobs.prices_set(price), B.submitted(), placed, *ENDED[2:])
    assert (
        "7 minutes x 1 unit x 0.031 EUR / 60 = 0.003617 EUR, rounded to a millionth, half to even."
        in texts(spec)
    )


@pytest.mark.parametrize(
    ("bodies", "text"),
    [
        ((B.submitted(),), "The run was never placed on a node."),
        (INITIALIZING, "has not been RUNNING: it is billed only if it gets there"),
        (PENDING, "has not been RUNNING: it is billed only if it gets there"),
        (
            (*PENDING, B.aborted(S.PENDING, S.FAILED)),
            "It never was RUNNING, and only runs that reach RUNNING",
        ),
        (
            RUNNING,
            "The run is not over and stands on no total; what follows is as if it ended at 2026-01-",
        ),
        (
            (*RUNNING, B.errored(S.RUNNING)),
            "By the rule platform-fault the whole amount, 0.001500 EUR, is cr",
        ),
        ((*PENDING, B.errored(S.PENDING)), "By the rule platform-fault the run is credited, and there is no"),
        ((*RUNNING, adopted(10, 20), exited(15)), "it was killed while nobody looked after the node."),
    ],
)
def test_why_a_run_is_not_billed_or_credited(bodies: tuple[Given, ...], text: str) -> None:
    assert any(text in each for each in texts(given(*bodies)))


def test_orders_are_told_with_what_they_are_about() -> None:
    at: datetime = given(*ENDED).next_at
    after = given(*ENDED).when(credit("0.001", cites=(3, 4)), at=at).then(granted("0.001", cites=(3, 4)))
    sentence = told(after).sentences[-2]
    assert sentence.text.endswith(" a credit of 0.001 EUR was ordered: so it is.")
    assert sentence.positions == (after.events[-1].position, 3, 4)
    assert told(after).net == Decimal("0.003000")

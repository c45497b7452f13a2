"""Budgets: what counts as spent, who is refused and how, and that each share warns once a month."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from projections import spend
from service.domain import commands as cmd
from service.domain import events as ev
from service.domain.bills.statement import Month
from service.domain.budget import Spend
from service.domain.states import State
from service.errors import BudgetExceeded, Invalid, NotFound, Rejected
from service.ledger.incident.replay import Replay
from tests.support import jobs
from tests.support.jobs import JOB, PROJECT
from tests.support.pure import PureLedger
from tests.support.specification import bare, given, happened
from tests.unit.histories import HISTORIES

EUR = Decimal(1)
#: An hour of one CPU costs 0.03: a minute 0.0005.
MINUTE = Decimal("0.0005")


def budget(amount: str | None, *shares: str, **changed: Any) -> cmd.SetBudget:
    fields: dict[str, Any] = {
        "project": PROJECT,
        "amount": None if amount is None else Decimal(amount),
        "warn_at": tuple(map(Decimal, shares or ("0.5", "1"))),
    }
    return cmd.SetBudget(**(fields | changed))


def look(**changed: Any) -> cmd.CheckBudget:
    fields: dict[str, Any] = {"project": PROJECT, "engine": jobs.ENGINE, "epoch": jobs.EPOCH}
    return cmd.CheckBudget(**(fields | changed))


class Ledger(PureLedger):
    """With a project, prices, and a budget if one is given; it begins a month."""

    def __init__(self, *commands: cmd.Command) -> None:
        super().__init__()
        self.done(
            cmd.SetPrices(prices=jobs.PRICES, currency="EUR"),
            cmd.CreateProject(project=PROJECT, name="Vision", cpu=100, gpu=4),
            *commands,
        )

    def done(self, *commands: cmd.Command) -> list[ev.Event]:
        found: list[ev.Event] = []
        for answer in self.commit(commands):
            assert not isinstance(answer, Rejected), answer.message
            found += answer
        return found

    def refused(self, command: cmd.Command) -> str:
        (answer,) = self.commit([command])
        assert isinstance(answer, BudgetExceeded), answer
        return answer.message

    def running(self, job: Any = JOB, **spec: Any) -> None:
        self.done(jobs.submit(job, **spec), jobs.place(job=job), jobs.prepared(job=job))
        self.done(jobs.started(self.now, job=job))

    def ended(self, job: Any = JOB) -> list[ev.Event]:
        return self.done(jobs.exited(self.now, job=job), jobs.finalize(job=job))

    @property
    def spend(self) -> Spend:
        found: Spend = self.rows.get("spend", PROJECT)
        return found

    def spent(self) -> Decimal:
        return self.spend.spent(Month.of(self.now), "EUR", self.now)

    def warnings(self) -> list[tuple[str, str, str]]:
        bodies = [event.body for event in self.events if isinstance(event.body, ev.BudgetWarned)]
        return [(str(body.share), str(body.spent), body.period) for body in bodies]


def test_spent_is_what_closed_runs_cost_and_what_live_ones_have_cost_so_far() -> None:
    ledger = Ledger()
    ledger.running(timeout=86_400)
    assert ledger.spent() == 0
    ledger.wait(60)
    assert ledger.spent() == MINUTE
    ledger.wait(0.000001)
    assert ledger.spent() == 2 * MINUTE, "a begun minute counts whole"
    ledger.ended()
    ledger.wait(600)
    assert ledger.spent() == 2 * MINUTE
    assert ledger.spend.live == {}


def test_a_run_that_never_ran_and_one_that_we_failed_cost_nothing() -> None:
    ledger = Ledger()
    ledger.done(jobs.submit(), jobs.place())
    ledger.wait(600)
    assert ledger.spent() == 0
    ledger.done(jobs.prepared(), jobs.started(ledger.now))
    assert ledger.spent() == 10 * MINUTE, "by the policy, the time before RUNNING counts once it is reached"
    ledger.done(jobs.fail())
    assert ledger.spent() == 0
    assert ledger.spend.live == {}


def test_what_our_fault_ends_after_the_month_is_given_back_in_the_next() -> None:
    ledger = Ledger()
    ledger.now = datetime(2026, 1, 31, 23, 58, tzinfo=UTC)
    ledger.running(timeout=10**7)
    ledger.wait(60)
    ledger.done(jobs.exited(ledger.now))
    ledger.wait(60)
    ledger.done(jobs.fail())
    assert ledger.spend.closed == {"2026-01": {"EUR": MINUTE}, "2026-02": {"EUR": -MINUTE}}


def test_credits_and_corrections_count_in_the_month_in_which_they_are_given() -> None:
    row = None
    for position, body in enumerate(
        (
            ev.CreditGranted(amount=Decimal("0.25"), currency="EUR", reason="A slow day."),
            ev.CreditGranted(amount=Decimal(3), currency="USD", reason="Another currency."),
            ev.BillCorrected(
                before=Decimal(2),
                corrected=Decimal("1.5"),
                difference=Decimal("-0.5"),
                currency="EUR",
                reason="Too many minutes.",
            ),
        ),
        start=1,
    ):
        event = happened(position, body, jobs.minutes(position), 1, jobs.minutes(position))
        assert spend.key(event) == PROJECT
        row = spend.evolve(row, event)
    assert row is not None
    assert row.closed == {"2026-01": {"EUR": Decimal("-0.75"), "USD": Decimal(-3)}}


def test_a_credit_lowers_what_is_spent_and_lets_jobs_in_again() -> None:
    ledger = Ledger(budget("0.001"))
    ledger.running(timeout=86_400)
    ledger.wait(120)
    ledger.refused(jobs.submit(UUID(int=2)))
    credit: dict[str, Any] = {"project": PROJECT, "currency": "EUR", "reason": "A slow day."}
    ledger.done(cmd.GrantCredit(amount=Decimal("0.0001"), **credit))
    assert ledger.spent() == Decimal("0.0009")
    ledger.done(jobs.submit(UUID(int=2)))
    ledger.ended()
    ledger.done(cmd.GrantCredit(amount=Decimal("0.0004"), job=JOB, run=1, **credit))
    corrected = cmd.CorrectBill(
        project=PROJECT, job=JOB, run=1, amount=Decimal("0.0006"), reason="It stood still."
    )
    ledger.done(corrected)
    assert ledger.spent() == Decimal("0.0006") - Decimal("0.0001") - Decimal("0.0004")


def test_time_in_which_nobody_looked_after_a_run_is_not_spent() -> None:
    ledger = Ledger()
    ledger.done(jobs.submit(timeout=86_400), jobs.place())
    began = ledger.now
    ledger.wait(600)
    ledger.done(jobs.adopt(began), jobs.prepared(), jobs.started(ledger.now))
    ledger.wait(60)
    assert ledger.spent() == MINUTE


def test_the_limit_refuses_new_jobs_and_lets_the_running_go_on() -> None:
    ledger = Ledger(budget("0.001"))
    ledger.running(timeout=86_400)
    ledger.wait(60)
    other = jobs.submit(UUID(int=2))
    ledger.done(other)
    ledger.wait(60)
    said = ledger.refused(jobs.submit(UUID(int=3)))
    assert said == (
        "the budget of project vision for 2026-01 is used up: 0.001000 of 0.001 EUR were spent; new jobs are "
        "taken again from 2026-02-01T00:00:00Z, or when the budget is raised"
    )
    ledger.wait(600)
    assert ledger.spend.live, "what runs is not stopped"
    ledger.ended()
    assert "0.006000 of 0.001 EUR" in ledger.refused(jobs.start())
    ledger.done(budget("0.01"))
    ledger.done(jobs.start())


def test_whoever_sees_only_some_jobs_is_not_told_what_the_others_cost() -> None:
    ledger = Ledger(budget("0"))
    command = cmd.SubmitJob(
        project=PROJECT, job=JOB, spec=jobs.spec(labels={"a": "b"}), user="ada", token_label="a=b"
    )
    assert "used up; new jobs" in ledger.refused(command)


def test_without_a_budget_nothing_is_refused_or_warned_of() -> None:
    ledger = Ledger(budget("0"))
    ledger.refused(jobs.submit())
    ledger.done(budget(None))
    ledger.running(timeout=86_400)
    ledger.wait(86_400)
    assert ledger.done(look()) == []
    assert ledger.warnings() == []


def test_a_job_priced_in_another_currency_cannot_be_counted_and_is_refused() -> None:
    ledger = Ledger(budget("10", currency="USD"))
    assert "priced in EUR: it cannot be counted" in ledger.refused(jobs.submit())


def test_a_job_does_not_restart_at_its_timeout_beyond_the_budget() -> None:
    ledger = Ledger(budget("0.0005"))
    ledger.running(timeout=60, timeout_auto_restart=True)
    ledger.wait(60)
    ledger.done(jobs.timeout(), jobs.exited(ledger.now, 143), jobs.finalize())
    job = ledger.rows.get("status", str(JOB))
    assert (job.state, job.info.code) == (State.INTERRUPTED, "not-restarted-budget")
    assert "the project's budget of the month is used up" in job.info.message


def test_a_job_that_restarts_closes_the_run_before() -> None:
    ledger = Ledger(budget("1"))
    ledger.running(timeout=60, timeout_auto_restart=True)
    ledger.wait(60)
    ledger.done(jobs.timeout(), jobs.exited(ledger.now, 143), jobs.finalize())
    assert ledger.rows.get("status", str(JOB)).state is State.QUEUED
    assert (ledger.spend.live, ledger.spent()) == ({}, MINUTE)


def test_each_share_warns_once_a_month_whoever_looks() -> None:
    ledger = Ledger(budget("0.001", "0.5", "0.8", "1"))
    ledger.running(timeout=86_400)
    assert ledger.warnings() == []
    ledger.wait(30)
    ledger.done(look())
    first = [("0.5", "0.000500", "2026-01")]
    assert ledger.warnings() == first
    ledger.done(look(), look(), jobs.label("a", "b"))
    assert ledger.warnings() == first
    ledger.wait(90)
    events = ledger.done(jobs.label("c", "d"))
    assert [event.type for event in events] == ["LabelSet", "BudgetWarned", "BudgetWarned"]
    assert len({event.command_id for event in events}) == 1, "they are told to follow from that command"
    assert ledger.warnings()[1:] == [("0.8", "0.001000", "2026-01"), ("1", "0.001000", "2026-01")]
    ledger.wait(3600)
    ledger.ended()
    assert len(ledger.warnings()) == 3


def test_commands_of_one_batch_warn_once() -> None:
    ledger = Ledger(budget("0.001", "0.5"))
    ledger.running(timeout=86_400)
    ledger.wait(60)
    ledger.done(look(), jobs.label("a", "b"), look(), jobs.submit(UUID(int=2)))
    assert len(ledger.warnings()) == 1


def test_a_new_month_begins_at_nothing_and_warns_anew() -> None:
    ledger = Ledger(budget("0.001", "0.5"))
    ledger.running(timeout=10**7)
    ledger.wait(60)
    ledger.ended()
    ledger.now = datetime(2026, 1, 31, 23, 59, 30, tzinfo=UTC)
    two = UUID(int=2)
    ledger.running(two, timeout=10**7)
    assert ledger.spent() == MINUTE
    ledger.now = datetime(2026, 2, 1, tzinfo=UTC)
    assert ledger.spent() == MINUTE, "only the live run: it counts where it is over, or now"
    ledger.done(look())
    assert [each[2] for each in ledger.warnings()] == ["2026-01", "2026-02"]
    ledger.ended(two)
    assert ledger.spend.closed == {"2026-01": {"EUR": MINUTE}, "2026-02": {"EUR": MINUTE}}


def test_a_window_that_closed_last_month_counts_there_even_while_the_run_is_put_away() -> None:
    ledger = Ledger(budget("0.001"))
    ledger.now = datetime(2026, 1, 31, 23, 58, tzinfo=UTC)
    ledger.running(timeout=10**7)
    ledger.now += timedelta(seconds=60)
    ledger.done(jobs.exited(ledger.now))
    ledger.now = datetime(2026, 2, 1, tzinfo=UTC)
    assert ledger.spent() == 0
    ledger.done(jobs.finalize())
    assert ledger.spend.closed == {"2026-01": {"EUR": MINUTE}}


def test_another_limit_is_reached_anew_and_the_same_one_is_not() -> None:
    ledger = Ledger(budget("0.001", "0.5"))
    ledger.running(timeout=86_400)
    ledger.wait(60)
    ledger.done(look(), budget("0.001", "0.5", "0.9"), look())
    assert [each[0] for each in ledger.warnings()] == ["0.5"]
    ledger.done(budget("0.0008", "0.5"))
    assert [each[0] for each in ledger.warnings()] == ["0.5", "0.5"]


def test_what_was_decided_on_a_budget_is_decided_so_again_without_it() -> None:
    """An incident's file has one job's events, and not what the others cost."""
    ledger = Ledger(budget("0.0005"))
    ledger.running(timeout=60, timeout_auto_restart=True)
    ledger.wait(60)
    ledger.done(jobs.timeout(), jobs.exited(ledger.now, 143), jobs.finalize(), look())
    assert len(ledger.warnings()) == 2
    assert [each for step in Replay().steps(ledger.events) for each in step.differences] == []


def test_a_supervisor_whose_lease_is_over_warns_of_nothing() -> None:
    ledger = Ledger(budget("0.001", "0.5"))
    ledger.running(timeout=86_400)
    ledger.wait(60)
    (answer,) = ledger.commit([look(epoch=jobs.EPOCH - 1)])
    assert isinstance(answer, Rejected)
    assert ledger.warnings() == []


@pytest.mark.parametrize("state", list(State))
def test_the_row_is_right_in_every_state(state: State) -> None:
    """Live is what holds a place on a node; QUEUED and ended runs are not."""
    outcome = given(*HISTORIES[state]).when(budget("5"))
    outcome.then(ev.BudgetSet(amount=Decimal(5), currency="EUR", warn_at=(Decimal("0.5"), Decimal(1))))


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (budget("-1"), "amount: '-1' is not allowed"),
        (budget("NaN"), "amount: 'NaN'"),
        (budget("Infinity"), "amount: 'Infinity'"),
        (budget("0.0000001"), "at most 6 decimals"),
        (budget("1e13"), "0 to 1000000000000"),
        (budget("1", "0"), "warnAt[0]: '0' is not allowed"),
        (budget("1", "0.5", "11"), "warnAt[1]: '11'"),
        (budget("1", "NaN"), "warnAt[0]: 'NaN'"),
        (budget("1", "0.00001"), "warnAt[0]"),
        (budget("1", *(["0.1"] * 11)), "warnAt: '11 shares'"),
        (budget("1", currency="euro"), "currency: 'euro'"),
        (budget("1", currency="eur"), "three capital letters"),
    ],
)
def test_bad_budgets(command: cmd.SetBudget, text: str) -> None:
    given().when(command).refused(Invalid, text)


def test_a_project_that_is_not_there_has_no_budget() -> None:
    bare().when(budget("1")).refused(NotFound)

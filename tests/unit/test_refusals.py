"""A refusal for a limit of the project is an event, and its caller is refused all the same."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from service.domain import commands as cmd
from service.domain import events as ev
from service.domain.context import Decision
from service.domain.refusals import MOST_A_MINUTE, QUIET, digest_of
from service.domain.spec import EnvVar, Sealed
from service.domain.states import State
from service.errors import BudgetExceeded, QuotaExceeded
from tests.support import jobs
from tests.support.jobs import JOB, PROJECT, T0
from tests.support.pure import PureLedger
from tests.support.specification import Outcome, given
from tests.unit.histories import HISTORIES, B

OTHER = UUID(int=5)
FULL = given(cpu=3)


def carried(outcome: Outcome) -> list[Decision]:
    outcome.refused(QuotaExceeded)
    assert outcome.refusal is not None
    found = [each for each in outcome.refusal.decisions if isinstance(each, Decision)]
    assert len(found) == len(outcome.refusal.decisions)
    return found


def submit(**changed: Any) -> cmd.SubmitJob:
    return jobs.submit(OTHER, **({"units": 4} | changed))


def test_what_was_wanted_by_whom_and_why_it_was_refused() -> None:
    labels = {"team": "vision", "ovh/id": str(OTHER)}
    (found,) = carried(FULL.when(submit(labels=labels)))
    body = found.body
    assert isinstance(body, ev.SubmissionRefused)
    assert (found.project, found.job, body.wanted, body.user) == (PROJECT, None, str(OTHER), "ada")
    assert body.info.code == "quota-exceeded"
    assert body.info.arguments == {"kind": "cpu", "asked": 4, "used": 0, "limit": 3}
    assert (body.resources.units, body.image, body.labels) == (4, "busybox:latest", {"team": "vision"})


def test_a_start_names_the_job_that_is_there() -> None:
    ended = given(*HISTORIES[State.DONE], ev.QuotaSet(cpu=0, gpu=0))
    (found,) = carried(ended.when(jobs.start()))
    assert (found.job, found.body.wanted) == (JOB, None)  # type: ignore[attr-defined]


def test_other_refusals_are_no_events() -> None:
    outcome = given(*HISTORIES[State.RUNNING]).when(jobs.start())
    assert outcome.refusal is not None and outcome.refusal.decisions == ()


def test_the_same_work_has_one_digest_whatever_its_id_and_secrets() -> None:
    def digest(**changed: Any) -> str:
        return digest_of(jobs.spec(**changed))

    secret = [EnvVar("K", Sealed("key", nonce, "box")) for nonce in ("1", "2")]
    assert digest(name="a", labels={"ovh/id": "1"}) == digest(name="b", labels={"ovh/id": "2"})
    assert digest(env=(secret[0],)) == digest(env=(secret[1],)) != digest()
    different = [
        digest(),
        digest(units=2),
        digest(kind="gpu"),
        digest(command=("a",)),
        digest(image="other:latest"),
        digest(labels={"team": "a"}),
        digest(timeout=61),
    ]
    assert len(set(different)) == len(different)


def test_the_same_one_is_recorded_once_a_minute() -> None:
    """Also within one commit, and by whatever id it is asked for."""
    ledger = PureLedger()
    prices = cmd.SetPrices(prices=jobs.PRICES, currency="EUR")
    ledger.commit([prices, cmd.CreateProject(project=PROJECT, name="Vision", cpu=3, gpu=0)])
    before = len(ledger.events)

    def ask(count: int, **changed: Any) -> int:
        """How many events came of asking so often."""
        known = len(ledger.events)
        answers = ledger.commit(
            [jobs.submit(UUID(int=n + 100), **({"units": 4} | changed)) for n in range(count)]
        )
        assert all(isinstance(answer, QuotaExceeded) for answer in answers)
        return len(ledger.events) - known

    assert ask(20) == 1
    ledger.wait(QUIET.total_seconds() - 1)
    assert ask(20) == 0
    assert ask(1, units=5) == 1, "other work"
    ledger.wait(1)
    assert ask(20) == 1
    assert ledger.events[before].occurred_at == T0
    assert len({event.command_id for event in ledger.events[before:]}) == 3


def test_different_ones_are_bounded_as_well() -> None:
    ledger = PureLedger()
    prices = cmd.SetPrices(prices=jobs.PRICES, currency="EUR")
    ledger.commit([prices, cmd.CreateProject(project=PROJECT, name="Vision", cpu=0, gpu=0)])
    before = len(ledger.events)
    for number in range(3 * MOST_A_MINUTE):
        ledger.commit([jobs.submit(UUID(int=number + 100), command=(str(number),))])
        ledger.wait(0.1)
    assert len(ledger.events) - before == MOST_A_MINUTE
    row = ledger.rows.get("refusals", PROJECT)
    assert len(row.recent) == MOST_A_MINUTE
    ledger.wait(QUIET.total_seconds())
    ledger.commit([jobs.submit(OTHER)])
    assert len(ledger.rows.get("refusals", PROJECT).recent) == 1, "what is past is forgotten"


def test_a_note_at_the_end_does_not_change_how_it_ended() -> None:
    """While FINALIZING the reason may be its data; then it is what its process did."""
    finalizing = given(*HISTORIES[State.FINALIZING])
    waits = ev.Info("data-not-answering", "The store does not answer.")
    noted = finalizing.when(jobs.note(info=waits)).then(ev.RunNoted(info=waits))
    assert noted.job is not None and noted.job.info == waits
    assert noted.when(jobs.finalize()).job.info == jobs.DONE


def test_a_run_that_starts_again_has_no_verdict_yet() -> None:
    again = given(*HISTORIES[State.DONE]).when(jobs.start()).then(B.queued_again(State.DONE))
    assert again.job is not None and again.job.verdict is None


def test_times_are_of_the_refusal() -> None:
    (found,) = carried(FULL.when(submit(), at=T0 + timedelta(minutes=9)))
    assert found.occurred_at == T0 + timedelta(minutes=9)


def test_one_for_the_budget_is_an_event_like_one_for_the_quota() -> None:
    ledger = PureLedger()
    made = cmd.CreateProject(project=PROJECT, name="Vision", cpu=9, gpu=0)
    nothing = cmd.SetBudget(project=PROJECT, amount=Decimal(0), warn_at=(Decimal(1),))
    ledger.commit([cmd.SetPrices(prices=jobs.PRICES, currency="EUR"), made, nothing])
    (answer,) = ledger.commit([jobs.submit(OTHER)])
    assert isinstance(answer, BudgetExceeded)
    body = ledger.events[-1].body
    assert isinstance(body, ev.SubmissionRefused)
    assert (body.info.code, body.info.message) == ("budget-exceeded", answer.recorded)


@pytest.mark.parametrize("token_label", [None, "team=a"])
def test_what_was_spent_is_told_to_the_caller_and_not_recorded(token_label: str | None) -> None:
    """Tokens of some labels read of the refusal, and see not all that the project has spent."""
    limit = ev.BudgetSet(amount=Decimal("0"), currency="EUR", warn_at=())
    asked = replace(jobs.submit(labels={"team": "a"}), token_label=token_label)
    refused = given(limit).when(asked).refusal
    assert isinstance(refused, BudgetExceeded)
    assert ("0 of 0 EUR" in refused.message.replace("0.000000", "0")) == (token_label is None)
    (decision,) = refused.decisions
    assert isinstance(decision, Decision)
    assert isinstance(decision.body, ev.SubmissionRefused)
    assert "used up; new jobs are taken again from" in decision.body.info.message
    assert "EUR" not in decision.body.info.message

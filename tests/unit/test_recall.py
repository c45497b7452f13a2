"""From events back to commands: every type of event has its way back, and deciding again tells the same."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from service.domain import commands as cmd
from service.domain import events as ev
from service.domain.directory import ADMINISTRATOR
from service.domain.quota import Quota
from service.domain.recall import INVERSES, Before, recall
from service.errors import QuotaExceeded
from service.ledger.incident.replay import Difference, Replay
from tests.support import jobs
from tests.support.jobs import JOB, PROJECT
from tests.support.pure import PureLedger

REMARK = ev.Info("note", "A link was skipped.", {"count": 1})


def test_every_type_of_event_has_an_inverse() -> None:
    assert set(INVERSES) | {ev.ProjectCreated} == set(ev.BODIES.values())


def opened(**quota: int) -> PureLedger:
    """A ledger with prices and a project, made with its first token."""
    ledger = PureLedger()
    token = cmd.FirstToken("t1", "ab" * 32)
    limits = {"cpu": 10, "gpu": 4} | quota
    done(ledger, cmd.SetPrices(prices=jobs.PRICES, currency="EUR"))
    done(ledger, cmd.CreateProject(project=PROJECT, name="Vision", token=token, **limits))
    return ledger


def done(ledger: PureLedger, *commands: cmd.Command) -> list[ev.Event]:
    """Carries out commands, a minute apart; the events of the last."""
    answer: list[ev.Event] = []
    for command in commands:
        ledger.wait(60)
        (found,) = ledger.commit([command])
        assert isinstance(found, list), found
        answer = found
    return answer


def differences(ledger: PureLedger) -> list[Difference]:
    return [each for step in Replay().steps(ledger.events) for each in step.differences]


def types(events: list[ev.Event]) -> list[str]:
    return [event.type for event in events]


def test_a_project_and_its_first_token_come_from_one_command() -> None:
    ledger = opened()
    command = recall(ledger.events[1:3], Before())
    assert isinstance(command, cmd.CreateProject)
    assert command.token == cmd.FirstToken("t1", "ab" * 32)
    assert ledger.events[2].body.role == ADMINISTRATOR
    assert differences(ledger) == []


def test_a_timeout_that_had_passed_is_part_of_the_command_that_found_it() -> None:
    ledger = opened()
    done(ledger, jobs.submit(timeout=90), jobs.place(), jobs.prepared())
    done(ledger, jobs.started(ledger.now))
    late = done(ledger, jobs.label("a", "b"), jobs.exited(ledger.now))
    assert types(late) == ["RunExited"], "the container's own time was before"
    ledger = opened()
    done(ledger, jobs.submit(timeout=90), jobs.place(), jobs.prepared(), jobs.started(ledger.now))
    ledger.wait(600)
    late = done(ledger, jobs.exited(ledger.now))
    assert types(late) == ["TimeoutReached", "RunExited"]
    assert isinstance(recall(late, Before()), cmd.ReportExited)
    done(ledger, jobs.finalize())
    assert differences(ledger) == []


@pytest.mark.parametrize("force", [False, True])
def test_a_deletion_comes_with_the_interrupt_or_the_end(force: bool) -> None:
    ledger = opened()
    done(ledger, jobs.submit())
    if force:
        assert types(done(ledger, jobs.delete(force=True))) == ["InterruptOrdered", "JobDeleted"]
    else:
        done(ledger, jobs.place(), jobs.delete(force=True), jobs.abort())
        assert types(done(ledger, jobs.finalize())) == ["RunFinalized", "JobDeleted"]
    assert differences(ledger) == []


@pytest.mark.parametrize("cpu", [1, 0])
def test_a_restart_at_the_timeout_depends_on_the_quota(cpu: int) -> None:
    ledger = opened()
    done(ledger, jobs.submit(timeout=60, timeout_auto_restart=True), jobs.place(), jobs.prepared())
    done(ledger, jobs.started(ledger.now), jobs.timeout(), cmd.SetQuota(project=PROJECT, cpu=cpu))
    done(ledger, jobs.exited(ledger.now, 143))
    ended = done(ledger, jobs.finalize(remark=ev.Info("note", "A link was skipped.", {"count": 1})))
    assert types(ended) == (["RunQueued"] if cpu else ["RunFinalized"])
    assert differences(ledger) == []


@pytest.mark.parametrize("code", [0, 1])
@pytest.mark.parametrize("problem", [None, ev.Info("push-failed", "The bucket is full.")])
@pytest.mark.parametrize("remark", [None, ev.Info("note", "A link was skipped.", {"count": 1})])
def test_an_end_with_a_problem_or_a_remark(
    code: int, problem: ev.Info | None, remark: ev.Info | None
) -> None:
    ledger = opened()
    done(ledger, jobs.submit(), jobs.place(), jobs.prepared(), jobs.started(ledger.now))
    done(ledger, jobs.exited(ledger.now, code))
    done(ledger, jobs.finalize(problem=problem, remark=remark, volumes_kept=problem is not None))
    if problem is not None:
        done(ledger, jobs.push_again(), jobs.sync("DONE", sync_id="s2"))
    done(ledger, jobs.start(discard_volumes=True), jobs.kill(), cmd.EraseJob(project=PROJECT, job=JOB))
    assert differences(ledger) == []


@pytest.mark.parametrize("kept", [True, False])
def test_an_error_that_keeps_what_the_run_has_made(kept: bool) -> None:
    ledger = opened()
    done(ledger, jobs.submit(), jobs.place(), jobs.prepared(), jobs.started(ledger.now))
    done(ledger, jobs.fail(volumes_kept=kept))
    assert differences(ledger) == []


def test_a_deletion_that_cuts_a_push_short() -> None:
    ledger = opened()
    done(ledger, jobs.submit(), jobs.place(), jobs.prepared(), jobs.started(ledger.now))
    done(ledger, jobs.exited(ledger.now))
    problem = ev.Info("push-failed", "The bucket is full.")
    done(ledger, jobs.finalize(problem=problem, volumes_kept=True), jobs.push_again())
    done(ledger, jobs.sync("RUNNING", sync_id="s2", manual=True))
    assert types(done(ledger, jobs.delete(force=True))) == ["DataSyncMoved", "JobDeleted"]
    assert differences(ledger) == []


def test_what_overseers_order_about_bills() -> None:
    ledger = opened()
    done(ledger, jobs.submit(), jobs.place(), jobs.prepared(), jobs.started(ledger.now))
    done(ledger, jobs.exited(ledger.now), jobs.finalize())
    of_run: dict[str, Any] = {"project": PROJECT, "job": JOB, "run": 1, "reason": "so it is"}
    done(
        ledger,
        cmd.SetPrices(prices={"ai1-1-cpu": Decimal(7)}, currency="EUR", source="order"),
        cmd.CorrectBill(**of_run, minutes=9, hourly_price=Decimal("0.5")),
        cmd.CorrectBill(**of_run, amount=Decimal(3), cites=(4, 5)),
        cmd.GrantCredit(**of_run, amount=Decimal("0.5"), currency="EUR"),
        cmd.GrantCredit(project=PROJECT, reason="kindness", amount=Decimal(9), currency="EUR"),
    )
    assert differences(ledger) == []


def test_what_a_project_owns() -> None:
    ledger = opened()
    volume = str(UUID(int=5))
    done(
        ledger,
        cmd.SetDataStore(
            project=PROJECT,
            alias="s",
            endpoint="http://s",
            region="gra",
            access_key=jobs.SEALED,
            secret_key=jobs.SEALED,
        ),
        cmd.CreateVolume(project=PROJECT, volume_id=volume, url="https://a.example/x.zip"),
        cmd.DeleteVolume(project=PROJECT, volume_id=volume),
        cmd.RemoveDataStore(project=PROJECT, alias="s"),
        cmd.SetRegistry(
            project=PROJECT,
            registry_id="r",
            user="ann",
            url="https://r.example",
            username="ann",
            password=jobs.SEALED,
        ),
        cmd.SetRegistry(project=PROJECT, registry_id="r", user="bob", username="bob", replace=True),
        cmd.RemoveRegistry(project=PROJECT, registry_id="r"),
        cmd.CreateToken(project=PROJECT, token_id="t2", name="x", role=ADMINISTRATOR, sha256="cd" * 32),
        cmd.RenewToken(project=PROJECT, token_id="t2", sha256="ef" * 32),
        cmd.RevokeToken(project=PROJECT, token_id="t2"),
        cmd.EraseProject(project=PROJECT, key_ids=("key-1",)),
        cmd.StartSupervisor(engine=jobs.ENGINE, epoch=jobs.EPOCH, node="n", cpus=4),
        cmd.SetAdmission(
            engine=jobs.ENGINE, epoch=jobs.EPOCH, node="n", stopped=ev.Info("node-disk-full", "It is full.")
        ),
    )
    assert differences(ledger) == []


def test_a_refusal_that_was_recorded_comes_out_again() -> None:
    """And what is sent once more under the same id is another command: it has a time of its own."""
    ledger = opened(cpu=1)
    done(ledger, jobs.submit(), jobs.kill(), jobs.submit(UUID(int=7)))
    ledger.wait(60)
    (refusal,) = ledger.commit([jobs.start()])
    assert isinstance(refusal, QuotaExceeded)
    refused = ledger.events[-1]
    assert refused.type == "SubmissionRefused"
    started = done(ledger, cmd.SetQuota(project=PROJECT, cpu=2), jobs.start())[0]
    ledger.events = [
        replace(event, command_id=refused.command_id) if event is started else event
        for event in ledger.events
        if event.type != "QuotaSet"
    ]
    steps = list(Replay({started.position: Quota(PROJECT, cpu=1, gpu=4)}).steps(ledger.events))
    assert [step.command for step in steps[-2:]] == ["StartJob", "StartJob"]
    assert [each for step in steps for each in step.differences] == []


def test_when_something_happened_is_decided_too() -> None:
    ledger = opened()
    at = done(ledger, jobs.submit(), jobs.place())[0]
    moved = replace(at, occurred_at=at.occurred_at - timedelta(seconds=1))
    ledger.events[ledger.events.index(at)] = moved
    assert [(each.position, each.field) for each in differences(ledger)] == [(at.position, "occurredAt")]


@pytest.mark.parametrize(
    ("before", "end"),
    [
        ([], {"remark": REMARK}),
        ([jobs.too_much_storage()], {}),
        ([jobs.too_much_storage()], {"remark": REMARK}),
        ([jobs.too_much_storage()], {"problem": ev.Info("push-failed", "No."), "volumes_kept": True}),
    ],
)
def test_what_its_data_waited_for_is_no_part_of_a_runs_end(
    before: list[cmd.Command], end: dict[str, Any]
) -> None:
    """A note in FINALIZING is what the job says then; its end says what the process came to."""
    ledger = opened()
    done(ledger, jobs.submit(timeout=86_400), jobs.place(), jobs.prepared())
    done(ledger, jobs.started(ledger.now), *before)
    done(ledger, jobs.exited(ledger.now, 143 if before else 0))
    done(ledger, jobs.note(info=ev.Info("data-not-answering", "The data store does not answer.")))
    done(ledger, jobs.finalize(**end))
    assert differences(ledger) == []

"""A run that takes more of the node's storage than it may: what is said, and whose word counts when."""

from __future__ import annotations

from typing import Any

import pytest

from service.domain import events as ev
from service.domain.bills.run import under
from service.domain.flavors import GIB
from service.domain.pricing import POLICIES
from service.domain.sizes import binary
from service.domain.states import State
from service.errors import StaleEpoch, WrongState
from tests.support import jobs
from tests.support.jobs import Bodies, minutes
from tests.support.specification import Given, Specification, folded, given
from tests.unit.histories import RUNNING, B, in_state

S = State
LIMIT, USED = 50 * GIB, 50 * GIB + 1
SAID = (
    "The job was stopped because it took 50.1 GiB of the node's storage, more than the 50 GiB that it has: "
    "the files in its container and in its volumes that are RW or RWD. Delete what is no longer needed while "
    "it runs, or ask for more CPUs: each brings 50 GiB."
)
BEYOND: tuple[Given, ...] = (*RUNNING, (minutes(4.5), B.beyond_storage(USED, SAID)))
ENDED = ev.Info("ephemeral-storage", SAID, {"used": USED, "limit": LIMIT, "exitCode": 143})


def told(spec: Specification, used: int = USED, **how: Any) -> Any:
    """At half a minute into RUNNING, half a minute before the timeout, unless told otherwise."""
    return spec.when(jobs.too_much_storage(used), **({"at": minutes(4.5)} | how))


def test_a_run_beyond_its_storage_is_stopped_and_told_why() -> None:
    outcome = told(in_state(S.RUNNING))
    outcome.then(B.beyond_storage(USED, SAID))
    outcome.occurred(minutes(4.5))
    job = outcome.job
    assert (job.state, job.stopped_at, job.storage_used) == (S.INTERRUPTING, minutes(4.5), USED)
    assert [visit.state for visit in job.history][-2:] == [S.RUNNING, S.INTERRUPTING]
    assert outcome.quota.cpu_used == 0, "as any run that is being stopped"


@pytest.mark.parametrize("code", [0, 1, 137, 143])
def test_it_failed_whatever_its_process_says_in_the_end(code: int) -> None:
    exited = given(*BEYOND).when(jobs.exited(minutes(5), code))
    assert (exited.job.outcome, exited.job.exit_code) == (S.FAILED, code)
    ended = exited.after.when(jobs.finalize())
    info = with_code(ENDED, code)
    ended.then(B.finalized(S.FAILED, info))
    assert (ended.job.state, ended.job.info) == (S.FAILED, info)


def with_code(info: ev.Info, code: int) -> ev.Info:
    return ev.Info(info.code, info.message, info.arguments | {"exitCode": code})


def test_what_fits_is_no_reason_to_stop() -> None:
    told(in_state(S.RUNNING), LIMIT).refused(WrongState, f"it takes {LIMIT} bytes and may take {LIMIT}")


def test_the_limit_is_that_of_all_units() -> None:
    two = Bodies(jobs.spec(units=2))
    running = given(two.submitted(), two.placed(), two.prepared(), two.started(minutes(4)))
    told(running, 2 * LIMIT).refused(WrongState)
    job = told(running, 2 * LIMIT + 1).job
    assert "took 100.1 GiB of the node's storage, more than the 100 GiB that it has" in job.info.message


def test_told_twice_records_once() -> None:
    told(given(*BEYOND), USED + 5).then()


def test_a_process_that_ended_by_itself_first_has_its_own_end() -> None:
    """The report comes when the exit is recorded already: it is refused, and the job is what it was."""
    ended = in_state(S.RUNNING).when(jobs.exited(minutes(4.2))).after
    told(ended).refused(WrongState, "is FINALIZING, not RUNNING")
    assert ended.when(jobs.finalize()).job.state is S.DONE


def test_an_interrupt_order_that_came_first_stands() -> None:
    killed = in_state(S.RUNNING).when(jobs.kill(), at=minutes(4.2)).after
    told(killed).refused(WrongState, "is INTERRUPTING, not RUNNING")
    assert killed.when(jobs.exited(minutes(5), 143)).job.outcome is S.INTERRUPTED


@pytest.mark.parametrize("order", [jobs.kill(), jobs.delete(force=True)])
def test_an_interrupt_order_that_comes_later_does_not_hide_the_reason(order: Any) -> None:
    ordered = given(*BEYOND).when(order)
    assert (ordered.job.state, ordered.job.info.code) == (S.INTERRUPTING, "ephemeral-storage")
    exited = ordered.after.when(jobs.exited(minutes(6), 143))
    assert (exited.job.outcome, exited.job.info) == (S.FAILED, ENDED)
    ended = exited.after.when(jobs.finalize())
    assert ended.job.state is S.FAILED
    assert ended.job.deleted is (order != jobs.kill())


def test_a_timeout_that_was_reached_first_is_said_first_and_stands() -> None:
    late = told(in_state(S.RUNNING), at=minutes(30))
    late.then(B.timed_out())
    late.occurred(minutes(5))
    assert (late.job.state, late.job.storage_used) == (S.TIMEOUT, None)
    told(late.after, at=minutes(31)).refused(WrongState, "is TIMEOUT, not RUNNING")
    assert late.after.when(jobs.exited(minutes(31), 143)).job.outcome is S.INTERRUPTED


def test_a_timeout_that_is_due_while_it_is_being_stopped_changes_nothing() -> None:
    stopping = given(*BEYOND)
    stopping.when(jobs.timeout(), at=minutes(6)).refused(WrongState, "is INTERRUPTING")
    exited = stopping.when(jobs.exited(minutes(6), 143), at=minutes(7))
    assert (exited.job.timed_out, exited.job.info) == (False, ENDED)


def test_a_supervisor_of_another_epoch_is_not_heard() -> None:
    told(in_state(S.RUNNING).under_epoch(jobs.EPOCH + 1)).refused(StaleEpoch, f"epoch {jobs.EPOCH}")


def test_whoever_takes_over_finds_it_to_be_stopped() -> None:
    """A restart between the report and the stop: the state says what is to be done, the row says why."""
    adopted = given(*BEYOND).when(jobs.adopt(minutes(4.6))).after
    told(adopted, at=minutes(6)).then()
    assert adopted.when(jobs.exited(minutes(6), 143)).job.info == ENDED


def test_it_does_not_restart_by_itself_and_can_be_started_again() -> None:
    """Its timeout would restart it; too much storage would be too much again, for ever."""
    of = Bodies(jobs.spec(timeout_auto_restart=True))
    begun: tuple[Given, ...] = (of.submitted(), of.placed(), of.prepared(), of.started(minutes(4)))
    exited = told(given(*begun)).after.when(jobs.exited(minutes(9), 143)).after
    ended = exited.when(jobs.finalize())
    assert (ended.job.state, ended.job.run, ended.job.info.code) == (S.FAILED, 1, "ephemeral-storage")
    again = ended.after.when(jobs.start())
    assert (again.job.state, again.job.run, again.job.storage_used) == (S.QUEUED, 2, None)


def test_a_push_that_fails_after_it_does_not_hide_the_reason() -> None:
    problem = ev.Info("data-push-refused", "The bucket is full.", {"volume": 0})
    exited = given(*BEYOND).when(jobs.exited(minutes(5), 143)).after
    ended = exited.when(jobs.finalize(problem=problem, volumes_kept=True)).job
    assert (ended.state, ended.info.code, ended.volumes_kept) == (S.FAILED, ENDED.code, True)
    assert ended.info.message == f"{SAID} {problem.message}"
    assert ended.info.arguments == ENDED.arguments | {"volume": 0}


def test_a_container_that_is_lost_while_it_is_stopped_is_ours() -> None:
    assert given(*BEYOND).when(jobs.fail()).job.state is S.ERROR


def test_giving_up_on_the_stop_is_the_jobs_failure() -> None:
    killed = given(*BEYOND).when(jobs.kill()).after
    assert killed.when(jobs.abort()).job.outcome is S.FAILED


def test_it_is_billed_as_any_run_that_ran() -> None:
    exited = given(*BEYOND).when(jobs.exited(minutes(7), 143), at=minutes(7)).after
    bill = folded(exited.events).get("billing", f"{jobs.JOB}/1")
    assert (bill.marks.left_running_at, bill.marks.finalizing_at) == (minutes(4.5), minutes(7))
    assert bill.minutes == 5, "from INITIALIZING in minute 2 to FINALIZING in minute 7"
    assert not bill.credited
    assert [under(bill, policy).minutes for policy in POLICIES] == [5, 1, 2]


@pytest.mark.parametrize(
    ("size", "text", "up"),
    [
        (0, "0 bytes", "0 bytes"),
        (1023, "1023 bytes", "1023 bytes"),
        (1024, "1 KiB", "1 KiB"),
        (8 * 2**20, "8 MiB", "8 MiB"),
        (8 * 2**20 + 1, "8 MiB", "8.1 MiB"),
        (3 * 2**29, "1.5 GiB", "1.5 GiB"),
        (2**30 - 1, "1024 MiB", "1024 MiB"),
        (5 * 2**60, "5120 PiB", "5120 PiB"),
    ],
)
def test_sizes_for_people(size: int, text: str, up: str) -> None:
    assert (binary(size), binary(size, up=True)) == (text, up)

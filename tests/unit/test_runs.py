"""What the supervisor reports: verdicts, timeouts, restarts, abortion, times of other clocks, epochs."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest

from service.domain import commands as cmd
from service.domain import events as ev
from service.domain.pricing import POLICIES, Marks, billed_minutes
from service.domain.states import State
from service.errors import NotFound, StaleEpoch, WrongState
from tests.support import jobs
from tests.support.jobs import CODE_1, DONE, TIMED_OUT, Bodies, minutes
from tests.support.specification import Given, bare, given
from tests.unit.histories import (
    FINALIZING,
    INITIALIZING,
    INTERRUPTING,
    PENDING,
    RUNNING,
    TIMEOUT,
    B,
    in_state,
)

S = State


def test_placing_fixes_the_price() -> None:
    outcome = in_state(S.QUEUED).when(jobs.place(gpus=("0",)))
    outcome.then(
        ev.RunPlaced(
            **B.move(S.QUEUED, S.INITIALIZING),
            engine=jobs.ENGINE,
            node=jobs.NODE,
            epoch=jobs.EPOCH,
            flavor="ai1-1-cpu",
            hourly_price=jobs.PRICES["ai1-1-cpu"],
            currency="EUR",
            gpus=("0",),
        )
    )
    assert outcome.job.gpus == ("0",)


def test_started_knows_when_its_time_is_up() -> None:
    outcome = given(*PENDING).when(jobs.started(minutes(3.5)))
    outcome.then(B.started(minutes(3.5)))
    outcome.occurred(minutes(3.5))
    assert outcome.job.timeout_at == minutes(4.5)


def test_timeout_occurs_when_the_time_was_up_however_late_it_is_noticed() -> None:
    outcome = in_state(S.RUNNING).when(jobs.timeout(), at=minutes(500))
    outcome.then(B.timed_out())
    outcome.occurred(minutes(5))
    assert outcome.job.stopped_at == minutes(5)


def test_timeout_is_refused_before_its_time() -> None:
    in_state(S.RUNNING).when(jobs.timeout(), at=minutes(4.999)).refused(WrongState, "which is not yet")
    in_state(S.RUNNING).when(jobs.timeout(), at=minutes(5)).then(B.timed_out())


@pytest.mark.parametrize(
    ("before", "code", "oom", "outcome", "reason"),
    [
        (RUNNING, 0, False, S.DONE, "done"),
        (RUNNING, 1, False, S.FAILED, "exit-code"),
        (RUNNING, 137, False, S.FAILED, "exit-code"),
        (RUNNING, 137, True, S.FAILED, "out-of-memory"),
        (RUNNING, 0, True, S.DONE, "done"),
        (INTERRUPTING, 0, False, S.INTERRUPTED, "interrupted"),
        (INTERRUPTING, 137, True, S.INTERRUPTED, "interrupted"),
        (TIMEOUT, 143, False, S.INTERRUPTED, "timeout"),
        (TIMEOUT, 0, False, S.INTERRUPTED, "timeout"),
    ],
)
def test_what_an_exit_means(
    before: tuple[Given, ...], code: int, oom: bool, outcome: State, reason: str
) -> None:
    """Our own order first, then the code; 137 alone proves nothing."""
    job = given(*before).when(jobs.exited(minutes(6), code, oom=oom)).job
    assert (job.outcome, job.info.code, job.exit_code, job.oom_killed) == (outcome, reason, code, oom)
    assert job.info.arguments["exitCode"] == code
    ended = given(*before).when(jobs.exited(minutes(6), code, oom=oom)).after.when(jobs.finalize())
    assert (ended.job.state, ended.job.info.code) == (outcome, reason)


def test_exit_in_time_of_the_engine() -> None:
    spec = in_state(S.RUNNING)
    spec.when(jobs.exited(minutes(4.5))).occurred(minutes(4.5))
    spec.when(jobs.exited(minutes(900)), at=minutes(4.9)).occurred(minutes(4.9))  # one that leads


def test_a_process_that_ran_did_not_run_for_no_time() -> None:
    """Docker can date an end before its start: even so every policy finds a begun minute to bill."""
    began, ended = minutes(4), minutes(4) + timedelta(microseconds=1)
    for said in (minutes(1), began):
        exited = in_state(S.RUNNING).when(jobs.exited(said))
        exited.occurred(ended)
        assert (exited.job.started_at, exited.job.stopped_at) == (began, ended)
    for policy in POLICIES:
        marks = Marks(
            initializing_at=minutes(2),
            pending_at=minutes(3),
            running_at=began,
            left_running_at=ended,
            finalizing_at=ended,
        )
        assert billed_minutes(marks, (), policy) > 0


def test_an_end_after_the_timeout_is_a_timeout_first() -> None:
    """Nobody was there to report it: judged and billed as if somebody had been."""
    spec = in_state(S.RUNNING)
    spec.when(jobs.exited(minutes(5)), at=minutes(30)).then(B.exited(S.RUNNING, S.DONE, DONE))
    late = spec.when(jobs.exited(minutes(20)), at=minutes(30))
    late.occurred(minutes(5), minutes(20))
    assert [type(decision.body) for decision in late.decisions] == [ev.TimeoutReached, ev.RunExited]
    assert [visit.state for visit in late.job.history][-3:] == [S.RUNNING, S.TIMEOUT, S.FINALIZING]
    assert (late.job.outcome, late.job.info.code) == (S.INTERRUPTED, "timeout")
    assert late.job.stopped_at == minutes(5), "what is billed as RUNNING ends with the timeout"


@pytest.mark.parametrize("order", [jobs.kill(), jobs.delete(force=True)])
def test_an_interrupt_order_after_the_timeout_finds_it_reached(order: cmd.JobCommand) -> None:
    late = in_state(S.RUNNING).when(order, at=minutes(30))
    late.occurred(minutes(5), minutes(30))
    assert [type(decision.body) for decision in late.decisions] == [ev.TimeoutReached, ev.InterruptOrdered]
    assert (late.job.state, late.job.stopped_at) == (S.TIMEOUT, minutes(5))
    assert late.job.timed_out and late.job.interrupt_ordered
    assert late.job.info == in_state(S.TIMEOUT).when(order).job.info, "as if it had been told in time"
    assert late.job.info.code == "timeout"


def test_a_start_of_another_clock_is_clamped_too() -> None:
    spec = given(*PENDING)
    spec.when(jobs.started(minutes(-9))).occurred(minutes(3))
    spec.when(jobs.started(minutes(900)), at=minutes(4)).occurred(minutes(4))
    assert spec.when(jobs.started(minutes(900)), at=minutes(4)).job.timeout_at == minutes(5)


def test_an_absence_cannot_reach_before_the_last_transition() -> None:
    outcome = given(*INITIALIZING).when(jobs.adopt(minutes(-60)))
    outcome.then(ev.RunAdopted(engine=jobs.ENGINE, epoch=jobs.EPOCH, absent_since=minutes(2)))


@pytest.mark.parametrize("before", [INITIALIZING, PENDING])
def test_abort_is_the_jobs_failure(before: tuple[Given, ...]) -> None:
    source = State.INITIALIZING if before is INITIALIZING else State.PENDING
    aborted = given(*before).when(jobs.abort())
    aborted.then(B.aborted(source, S.FAILED))
    ended = aborted.after.when(jobs.finalize())
    assert ended.job.state is S.FAILED
    assert ended.job.info.code == "no-image"


@pytest.mark.parametrize("source", [S.INITIALIZING, S.PENDING])
def test_interrupted_before_its_process_ran(source: State) -> None:
    before = in_state(source).when(jobs.kill()).after
    before.when(jobs.abort()).then(B.aborted(S.INTERRUPTING, S.INTERRUPTED))
    assert before.when(jobs.abort()).after.when(jobs.finalize()).job.state is S.INTERRUPTED


@pytest.mark.parametrize("outcome", [S.DONE, S.FAILED, S.INTERRUPTED])
def test_a_push_that_failed_makes_the_job_failed(outcome: State) -> None:
    problem = ev.Info("push-failed", "The bucket is full.")
    before = given(*RUNNING, B.exited(S.RUNNING, outcome, DONE))
    ended = before.when(jobs.finalize(problem=problem, volumes_kept=True))
    ended.then(B.finalized(S.FAILED, problem, kept=True))


def test_a_remark_is_added_to_what_the_end_says() -> None:
    remark = ev.Info("not-all-pushed", "Not everything was pushed: a link.", {"notPushed": 1})
    ended = given(*FINALIZING).when(jobs.finalize(remark=remark)).job
    assert (ended.state, ended.info.code) == (S.DONE, DONE.code)
    assert ended.info.message == f"{DONE.message} Not everything was pushed: a link."
    assert ended.info.arguments == DONE.arguments | {"notPushed": 1}


def test_an_error_is_said_and_ends_the_run() -> None:
    in_state(S.RUNNING).when(jobs.fail()).then(B.errored(S.RUNNING))
    job = in_state(S.RUNNING).when(jobs.fail()).job
    assert (job.state, job.info.code, job.finalized_at) == (S.ERROR, "lost", minutes(5))


# -- restart after a timeout ------------------------------------------------------------------------

RESTARTING = Bodies(jobs.spec(timeout_auto_restart=True))
R = RESTARTING
TIMED_OUT_RUN: tuple[Given, ...] = (
    R.submitted(),
    R.placed(),
    R.prepared(),
    R.started(minutes(4)),
    R.timed_out(),
    R.exited(S.TIMEOUT, S.INTERRUPTED, TIMED_OUT, 143),
)


def test_restarts_after_its_timeout() -> None:
    outcome = given(*TIMED_OUT_RUN).when(jobs.finalize())
    outcome.then(
        R.queued_again(S.FINALIZING, "restarted", "The job's timeout was reached and it was queued again.")
    )
    job = outcome.job
    assert (job.state, job.run, job.timed_out, job.started_at, job.exit_code) == (
        S.QUEUED,
        2,
        False,
        None,
        None,
    )
    assert outcome.quota.cpu_used == 1


def test_does_not_restart_without_quota() -> None:
    other = ev.QuotaSet(cpu=0, gpu=0)
    outcome = given(*TIMED_OUT_RUN, other).when(jobs.finalize())
    job = outcome.job
    assert (job.state, job.run, job.info.code) == (S.INTERRUPTED, 1, "not-restarted")
    assert outcome.quota.cpu_used == 0


def test_restarts_when_its_own_units_fill_the_quota() -> None:
    assert given(*TIMED_OUT_RUN, cpu=1).when(jobs.finalize()).job.state is S.QUEUED


def test_does_not_restart_what_was_interrupted_or_could_not_be_pushed() -> None:
    killed = given(*TIMED_OUT_RUN).when(jobs.kill()).after
    assert killed.when(jobs.finalize()).job.state is S.INTERRUPTED
    problem = ev.Info("push-failed", "The bucket is full.")
    job = given(*TIMED_OUT_RUN).when(jobs.finalize(problem=problem)).job
    assert (job.state, job.info) == (S.FAILED, problem)


def test_does_not_restart_without_being_asked_or_without_a_timeout() -> None:
    plain = given(*TIMEOUT, B.exited(S.TIMEOUT, S.INTERRUPTED, TIMED_OUT, 143))
    assert plain.when(jobs.finalize()).job.state is S.INTERRUPTED
    ended = (*TIMED_OUT_RUN[:4], R.exited(S.RUNNING, S.DONE, DONE))
    assert given(*ended).when(jobs.finalize()).job.state is S.DONE


# -- whose word counts ------------------------------------------------------------------------------

OF_ONE_RUN = [
    jobs.place(),
    jobs.prepared(),
    jobs.started(minutes(4)),
    jobs.timeout(),
    jobs.too_much_storage(),
    jobs.exited(minutes(5)),
    jobs.abort(),
    jobs.fail(),
    jobs.finalize(),
    jobs.note(),
    jobs.adopt(minutes(4)),
    jobs.sync(),
]
BY_TYPE = [pytest.param(command, id=type(command).__name__) for command in OF_ONE_RUN]


@pytest.mark.parametrize("command", BY_TYPE)
@pytest.mark.parametrize("in_force", [jobs.EPOCH + 1, None])
def test_a_stale_epoch_is_refused(command: cmd.RunCommand, in_force: int | None) -> None:
    for state in State:
        in_state(state).under_epoch(in_force).when(command).refused(StaleEpoch, f"epoch {jobs.EPOCH}")


def test_a_supervisor_of_a_stale_epoch_cannot_start() -> None:
    order = cmd.StartSupervisor(engine=jobs.ENGINE, epoch=jobs.EPOCH, node=jobs.NODE)
    given().under_epoch(jobs.EPOCH + 1).when(order).refused(StaleEpoch)
    body = ev.SupervisorStarted(engine=jobs.ENGINE, node=jobs.NODE, epoch=jobs.EPOCH)
    given().when(order).then(body)


@pytest.mark.parametrize("command", BY_TYPE)
def test_another_run_is_refused(command: cmd.RunCommand) -> None:
    fields = {name: getattr(command, name) for name in command.__struct_fields__}
    for run in (0, 2):
        other = type(command)(**(fields | {"run": run}))
        in_state(S.RUNNING).when(other).refused(WrongState, "run 1 is current")


@pytest.mark.parametrize(
    "command",
    [
        *BY_TYPE,
        *(
            pytest.param(command, id=type(command).__name__)
            for command in (jobs.kill(), jobs.start(), jobs.delete(force=True), jobs.push_again())
        ),
    ],
)
def test_another_project_or_job_is_not_found(command: cmd.RunCommand | cmd.JobCommand) -> None:
    fields = {name: getattr(command, name) for name in command.__struct_fields__}
    other = type(command)(**(fields | {"project": "audio"}))
    in_state(S.RUNNING).when(other).refused(NotFound, "there is no job")
    stranger = type(command)(**(fields | {"job": UUID(int=9)}))
    in_state(S.RUNNING).when(stranger).refused(NotFound, "there is no job")
    deleted = given(*FINALIZING, B.finalized(S.DONE, DONE), ev.JobDeleted())
    deleted.when(command).refused(NotFound, "there is no job")


def test_no_price_in_force_leaves_it_queued() -> None:
    before = bare(jobs.project_created(), B.submitted())
    before.when(jobs.place()).refused(WrongState, "no price is in force for flavor ai1-1-cpu")


def test_news_that_is_none_records_nothing() -> None:
    noted = in_state(S.QUEUED).when(jobs.note())
    noted.then(ev.RunNoted(info=ev.Info("waiting", "There is no room yet.")))
    noted.after.when(jobs.note()).then()


def test_failed_code_stays_with_the_run() -> None:
    ended = given(*RUNNING, B.exited(S.RUNNING, S.FAILED, CODE_1, 1)).when(jobs.finalize())
    ended.then(B.finalized(S.FAILED, CODE_1))
    assert ended.job.exit_code == 1


def test_stopped_is_when_running_ended_not_when_the_process_did() -> None:
    interrupted = in_state(S.INTERRUPTING)
    stopped = interrupted.when(jobs.exited(minutes(9), 143), at=minutes(9)).job.stopped_at
    assert stopped is not None and stopped < minutes(9)


def test_a_kill_that_nobody_ordered_is_told_without_a_guess() -> None:
    job = given(*RUNNING).when(jobs.exited(minutes(6), 137, oom=False)).job
    assert "code 137" in job.info.message
    assert "does not rule it out: the job had 4 GiB" in job.info.message

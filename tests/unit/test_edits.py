"""Changing a job's timeout, restart and labels, and moving its data while it runs: given, when, then."""

from __future__ import annotations

from typing import Any

import pytest

from service.domain import commands as cmd
from service.domain import events as ev
from service.domain.selectors import parse_selector
from service.domain.spec import Permission, Place, Volume
from service.domain.states import ENDED, State
from service.errors import Invalid, NotFound, WrongState
from tests.support import jobs
from tests.support.jobs import Bodies, minutes
from tests.support.specification import Specification, given
from tests.unit.histories import HISTORIES, in_state

PLACE = Place("store", "data")
VOLUMES = (
    Volume("/in", Permission.RO, PLACE),
    Volume("/out", Permission.RW, PLACE),
    Volume("/scratch", Permission.RW),
)
#: The container started in minute 4 and its timeout is in minute 5.
RUNNING = in_state(State.RUNNING)


def with_volumes(*, ended: bool = False) -> Specification:
    """A job with three volumes that is RUNNING, or one that has ended and kept what it could not push."""
    b = Bodies(jobs.spec(volumes=VOLUMES))
    running = (b.submitted(), b.placed(), b.prepared(), b.started(minutes(4)))
    if not ended:
        return given(*running)
    failed = b.finalized(State.FAILED, jobs.CODE_1, kept=True)
    return given(*running, b.exited(State.RUNNING, State.FAILED, jobs.CODE_1, 1), failed)


def order(direction: Any, volume: int | None = None, sync_id: str = "s1") -> cmd.SyncData:
    return cmd.SyncData(
        project=jobs.PROJECT, job=jobs.JOB, sync_id=sync_id, direction=direction, volume=volume
    )


# -- the timeout ------------------------------------------------------------------------------------


def test_a_longer_timeout_moves_the_end_of_a_run_that_is_running() -> None:
    outcome = RUNNING.when(jobs.edit(timeout=600), at=minutes(4.5))
    after = outcome.then(ev.JobEdited(timeout=600, timeout_auto_restart=False, timeout_at=minutes(14)))
    assert after.job is not None
    assert (after.job.spec.timeout, after.job.timeout_at) == (600, minutes(14))
    after.when(jobs.timeout(), at=minutes(13.9)).refused(WrongState, "which is not yet")
    after.when(jobs.timeout(), at=minutes(14)).then(Bodies().timed_out())


def test_a_shorter_timeout_lies_in_the_future() -> None:
    longer = RUNNING.when(jobs.edit(timeout=600), at=minutes(4.5)).after
    longer.when(jobs.edit(timeout=120), at=minutes(6.5)).refused(Invalid, "the job runs for 150 s already")
    longer.when(jobs.edit(timeout=120), at=minutes(5.9)).then(
        ev.JobEdited(timeout=120, timeout_auto_restart=False, timeout_at=minutes(6))
    )


def test_an_edit_that_comes_after_the_timeout_finds_it_reached() -> None:
    outcome = RUNNING.when(jobs.edit(timeout=600), at=minutes(7))
    assert [type(decision.body) for decision in outcome.decisions] == [ev.TimeoutReached, ev.JobEdited]
    assert outcome.after.job is not None
    assert outcome.after.job.state is State.TIMEOUT
    assert outcome.after.job.timeout_at == minutes(5)
    assert outcome.after.job.spec.timeout == 600


@pytest.mark.parametrize("state", [state for state in State if state is not State.RUNNING])
def test_every_other_state_keeps_the_edit_for_the_next_run(state: State) -> None:
    before = in_state(state)
    assert before.job is not None
    after = before.when(jobs.edit(timeout=300, timeout_auto_restart=True)).after
    assert after.job is not None
    assert after.job.state is state
    assert (after.job.spec.timeout, after.job.spec.timeout_auto_restart) == (300, True)
    assert after.job.timeout_at == before.job.timeout_at


def test_what_is_not_named_stays_and_what_is_the_same_is_no_event() -> None:
    RUNNING.when(jobs.edit(timeout=60), at=minutes(4.5)).then()
    RUNNING.when(jobs.edit(timeout_auto_restart=False), at=minutes(4.5)).then()
    RUNNING.when(jobs.edit(timeout_auto_restart=True), at=minutes(4.5)).then(
        ev.JobEdited(timeout=60, timeout_auto_restart=True, timeout_at=minutes(5))
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"timeout": 0}, "1 to 31536000"),
        ({"timeout": -5}, "1 to 31536000"),
        ({"timeout": 31_536_001}, "1 to 31536000"),
        ({"timeout": 59, "timeout_auto_restart": True}, "60 to 31536000"),
    ],
)
def test_timeouts_that_are_refused(fields: dict[str, Any], said: str) -> None:
    in_state(State.QUEUED).when(jobs.edit(**fields)).refused(Invalid, said)


def test_a_restart_that_was_switched_on_while_the_timeout_is_under_way_counts() -> None:
    after = in_state(State.TIMEOUT).when(jobs.edit(timeout_auto_restart=True)).after
    b = Bodies()
    stopped = after.when(jobs.exited(minutes(9), 137)).after
    final = stopped.when(jobs.finalize())
    assert [type(decision.body) for decision in final.decisions] == [ev.RunQueued]
    assert b.spec.timeout_auto_restart is False


# -- labels -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", list(State))
def test_a_label_is_set_changed_and_taken_away_in_every_state(state: State) -> None:
    there = in_state(state).when(jobs.label("team", "vision")).then(ev.LabelSet(name="team", value="vision"))
    changed = there.when(jobs.label("team", "")).then(ev.LabelSet(name="team", value=""))
    assert changed.job is not None
    assert changed.job.spec.labels["team"] == ""
    gone = changed.when(jobs.label("team")).then(ev.LabelSet(name="team"))
    assert gone.job is not None
    assert "team" not in gone.job.spec.labels
    gone.when(jobs.label("team")).then()
    changed.when(jobs.label("team", "")).then()


def test_labels_that_are_refused() -> None:
    for name, value in (("ovh/id", "x"), ("ovh/other", None), ("", "x"), ("a b", "x"), ("a", "b c")):
        RUNNING.when(jobs.label(name, value), at=minutes(4.5)).refused(Invalid)
    full = given(Bodies(jobs.spec(labels={f"l{n}": "" for n in range(64)})).submitted())
    full.when(jobs.label("one-more", "x")).refused(Invalid, "at most 64")
    full.when(jobs.label("l1", "x")).then(ev.LabelSet(name="l1", value="x"))


def test_a_scoped_token_moves_no_job_into_or_out_of_its_scope() -> None:
    scope = parse_selector("labelSelector", "team=vision")
    RUNNING.when(jobs.label("team", "vision", scope=scope), at=minutes(4.5)).refused(NotFound)
    mine = RUNNING.when(jobs.label("team", "vision"), at=minutes(4.5)).after
    mine.when(jobs.label("team", "audio", scope=scope)).refused(Invalid, "limited to jobs with team=vision")
    mine.when(jobs.label("team", scope=scope)).refused(Invalid, "limited to jobs with team=vision")
    mine.when(jobs.label("stage", "x", scope=scope)).then(ev.LabelSet(name="stage", value="x"))


@pytest.mark.parametrize(
    "command",
    [jobs.kill, jobs.start, jobs.delete, jobs.edit, jobs.push_again],
)
def test_for_a_scoped_token_there_are_no_other_jobs(command: Any) -> None:
    scope = parse_selector("labelSelector", "team=vision")
    for state in HISTORIES:
        in_state(state).when(command(scope=scope)).refused(NotFound, "there is no job")


# -- data, while the job runs -----------------------------------------------------------------------


def test_data_is_moved_while_the_job_runs() -> None:
    ordered = with_volumes().when(order("push"), at=minutes(4.5))
    after = ordered.then(ev.SyncOrdered(sync_id="s1", direction="push"))
    assert after.job is not None
    assert [order.id for order in after.job.sync_orders] == ["s1"]
    done = after.when(jobs.sync("DONE", sync_id="s1", manual=True)).after
    assert done.job is not None
    assert done.job.sync_orders == ()


def test_one_volume_may_be_named() -> None:
    after = with_volumes().when(order("pull", 0), at=minutes(4.5)).after
    moved = after.when(jobs.sync("RUNNING", sync_id="s1", direction="pull")).after
    assert moved.job is not None
    assert moved.job.data_syncs[0].volume == 0
    assert moved.job.sync_orders[0].volume == 0


@pytest.mark.parametrize(("direction", "volume"), [("push", 0), ("push", 2), ("pull", 2)])
def test_what_cannot_be_moved_is_refused(direction: str, volume: int) -> None:
    outcome = with_volumes().when(order(direction, volume), at=minutes(4.5))
    outcome.refused(Invalid, VOLUMES[volume].mount_path)
    assert isinstance(outcome.refusal, Invalid)
    assert outcome.refusal.field == "volume"


def test_a_job_without_volumes_has_nothing_to_move() -> None:
    RUNNING.when(order("push"), at=minutes(4.5)).refused(Invalid, "the job has no volumes")
    RUNNING.when(order("pull"), at=minutes(4.5)).refused(Invalid, "the job has no volumes")


def test_the_same_order_does_not_wait_twice() -> None:
    after = with_volumes().when(order("push"), at=minutes(4.2)).after
    after.when(order("push", sync_id="s2"), at=minutes(4.3)).refused(WrongState, "was ordered")
    after.when(order("push", 1, sync_id="s2"), at=minutes(4.3)).then(
        ev.SyncOrdered(sync_id="s2", direction="push", volume=1)
    )


@pytest.mark.parametrize("state", sorted(ENDED))
def test_an_ended_job_that_kept_nothing_has_nothing_to_push(state: State) -> None:
    in_state(state).when(order("push")).refused(WrongState, f"is {state} and has no volumes that were kept")


@pytest.mark.parametrize("state", [state for state in State if state not in (State.RUNNING, *ENDED)])
def test_only_a_running_job_moves_data_on_order(state: State) -> None:
    in_state(state).when(order("push")).refused(WrongState, "ask while it is RUNNING")


def test_of_an_ended_job_what_was_kept_is_pushed_as_a_whole() -> None:
    kept = with_volumes(ended=True)
    kept.when(order("pull")).refused(WrongState, "no volumes that were kept")
    kept.when(order("push", 1)).refused(Invalid, "all kept volumes")
    kept.when(order("push")).then(ev.PushOrdered(sync_id="s1"))


def test_the_end_of_a_run_ends_what_was_ordered() -> None:
    after = with_volumes().when(order("push"), at=minutes(4.2)).after
    moving = after.when(jobs.sync("RUNNING", sync_id="s1", manual=True), at=minutes(4.3)).after
    ended = moving.when(jobs.fail(), at=minutes(4.4)).after
    assert ended.job is not None
    assert ended.job.sync_orders == ()
    told = [(sync.state, sync.message) for sync in ended.job.data_syncs]
    assert told == [("FAILED", "The run ended before.")]


def test_a_token_gets_another_value() -> None:
    made = given(ev.TokenCreated(token_id="t1", name="ci", role="administrator", sha256="old"))
    renew = cmd.RenewToken(project=jobs.PROJECT, token_id="t1", sha256="new")
    after = made.when(renew).then(ev.TokenRenewed(token_id="t1", sha256="new"))
    made.when(replace_project(renew)).refused(NotFound)
    revoked = after.when(cmd.RevokeToken(project=jobs.PROJECT, token_id="t1")).after
    revoked.when(renew).refused(NotFound)


def replace_project(command: cmd.RenewToken) -> cmd.RenewToken:
    return cmd.RenewToken(project="other", token_id=command.token_id, sha256=command.sha256)

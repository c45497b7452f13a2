"""What users order: submit, interrupt, start again, delete, push again."""

from __future__ import annotations

import pytest

from service.domain import events as ev
from service.domain.spec import Permission, Place, Volume
from service.domain.states import ENDED, LIVE, STARTABLE, State
from service.errors import Conflict, Invalid, NotFound, QuotaExceeded, WrongState
from tests.support import jobs
from tests.support.jobs import DONE, PROJECT, SEALED, Bodies, minutes
from tests.support.specification import bare, given
from tests.unit.histories import FINALIZING, B, in_state

S = State


def test_submitting_queues_the_first_run() -> None:
    outcome = given().when(jobs.submit())
    outcome.then(B.submitted())
    job = outcome.job
    assert (job.state, job.run, job.user, job.info.code) == (S.QUEUED, 1, "ada", "queued")
    assert (outcome.quota.cpu_used, outcome.quota.gpu_used) == (1, 0)


def test_submitting_up_to_the_quota_and_not_beyond() -> None:
    given(cpu=3).when(jobs.submit(units=3)).then(Bodies(jobs.spec(units=3)).submitted())
    given(cpu=3).when(jobs.submit(units=4)).refused(QuotaExceeded, "resources.cpu: 4 asked")
    given(gpu=0).when(jobs.submit(kind="gpu")).refused(QuotaExceeded, "uses 0 of its quota of 0 GPU")


def test_each_kind_has_its_own_quota() -> None:
    given(cpu=0, gpu=1).when(jobs.submit(kind="gpu")).then(Bodies(jobs.spec(kind="gpu")).submitted())


def test_submitting_needs_a_project_a_price_and_a_new_id() -> None:
    bare(jobs.prices_set()).when(jobs.submit()).refused(NotFound, f"there is no project {PROJECT}")
    bare(jobs.project_created()).when(jobs.submit()).refused(Invalid, "no price has been set for it")
    in_state(S.DONE).when(jobs.submit()).refused(Conflict, "exists already")


def test_a_price_that_is_not_in_force_yet_does_not_count() -> None:
    later = ev.PricesSet(prices=jobs.PRICES, valid_from=minutes(60))
    before = bare(jobs.project_created(), later)
    before.when(jobs.submit(), at=minutes(59)).refused(Invalid, "resources.flavor")
    before.when(jobs.submit(), at=minutes(60)).then(B.submitted())


@pytest.mark.parametrize(
    ("volume", "field"),
    [
        (Volume("/data", Permission.RO, Place("nowhere", "box")), "volumes[0].dataStore.alias"),
        (
            Volume("/data", Permission.RW, Place("s3", "box"), target=Place("nowhere", "box")),
            "volumes[0].targetDataStore.alias",
        ),
    ],
)
def test_volumes_need_a_data_store_of_the_project(volume: Volume, field: str) -> None:
    before = given(data_store_set())
    outcome = before.when(jobs.submit(volumes=(volume,)))
    outcome.refused(Invalid, f"{field}: 'nowhere' is not allowed; the project's data stores are s3")


def data_store_set(alias: str = "s3") -> ev.DataStoreSet:
    return ev.DataStoreSet(
        alias=alias,
        kind="s3",
        endpoint="https://s3.example.org",
        region="gra",
        access_key=SEALED,
        secret_key=SEALED,
    )


# -- interrupt --------------------------------------------------------------------------------------


def test_interrupting_what_is_queued_ends_it() -> None:
    outcome = in_state(S.QUEUED).when(jobs.kill())
    outcome.then(B.interrupted(S.QUEUED, S.INTERRUPTED))
    assert outcome.job.finalized_at == minutes(2)


@pytest.mark.parametrize("state", [S.INITIALIZING, S.PENDING, S.RUNNING])
def test_interrupting_what_is_placed_stops_it_first(state: State) -> None:
    outcome = in_state(state).when(jobs.kill())
    outcome.then(B.interrupted(state, S.INTERRUPTING))
    outcome.after.when(jobs.kill()).then()  # a second order changes nothing


@pytest.mark.parametrize("state", [S.TIMEOUT, S.FINALIZING])
def test_interrupting_what_is_ending_is_remembered_once(state: State) -> None:
    outcome = in_state(state).when(jobs.kill())
    assert [type(decision.body) for decision in outcome.decisions] == [ev.InterruptOrdered]
    assert (outcome.job.state, outcome.job.interrupt_ordered) == (state, True)
    outcome.after.when(jobs.kill()).then()


def test_an_end_that_was_normal_stays_normal() -> None:
    """The process had ended by itself before the order came."""
    late = in_state(S.FINALIZING).when(jobs.kill()).after
    assert late.when(jobs.finalize()).job.state is S.DONE


# -- start again ------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", sorted(STARTABLE))
def test_starting_again_is_a_new_run(state: State) -> None:
    outcome = in_state(state).when(jobs.start())
    outcome.then(B.queued_again(state))
    job = outcome.job
    assert (job.run, job.state, job.exit_code, job.started_at, job.outcome) == (2, S.QUEUED, None, None, None)
    assert not job.interrupt_ordered
    assert job.queued_at == outcome.now
    assert outcome.decisions[0].run == 2
    placed = outcome.after.when(jobs.place(run=2))
    assert placed.job.state is S.INITIALIZING


def test_an_error_is_not_started_again() -> None:
    in_state(S.ERROR).when(jobs.start()).refused(WrongState, "only a job that is DONE, FAILED, INTERRUPTED")


def test_starting_again_needs_quota() -> None:
    before = given(*FINALIZING, B.finalized(S.DONE, DONE), ev.QuotaSet(cpu=0, gpu=4))
    before.when(jobs.start()).refused(QuotaExceeded, "resources.cpu: 1 asked")


# -- delete -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", sorted(ENDED))
@pytest.mark.parametrize("force", [False, True])
def test_what_has_ended_is_deleted_at_once(state: State, force: bool) -> None:
    outcome = in_state(state).when(jobs.delete(force=force))
    outcome.then(ev.JobDeleted())
    outcome.after.when(jobs.delete(force=force)).refused(NotFound)


@pytest.mark.parametrize("state", sorted(LIVE))
def test_what_lives_is_not_deleted_without_force(state: State) -> None:
    in_state(state).when(jobs.delete()).refused(WrongState, "stop it first, or delete it with force")


def test_force_deletes_what_is_queued_at_once() -> None:
    outcome = in_state(S.QUEUED).when(jobs.delete(force=True))
    outcome.then(B.interrupted(S.QUEUED, S.INTERRUPTED, then_delete=True), ev.JobDeleted())
    assert outcome.quota.cpu_used == 0


@pytest.mark.parametrize("state", sorted(LIVE - {S.QUEUED}))
def test_force_deletes_what_lives_when_it_has_ended(state: State) -> None:
    ordered = in_state(state).when(jobs.delete(force=True))
    assert not ordered.job.deleted
    ordered.after.when(jobs.delete(force=True)).then()
    ended = ordered.after.when(jobs.finalize() if state is S.FINALIZING else jobs.fail())
    assert isinstance(ended.decisions[-1].body, ev.JobDeleted)
    assert ended.job.deleted


def test_an_interrupt_does_not_take_back_the_deletion() -> None:
    ordered = in_state(S.RUNNING).when(jobs.delete(force=True)).after
    ordered.when(jobs.kill()).then()
    interrupted = in_state(S.RUNNING).when(jobs.kill()).after
    assert interrupted.job is not None
    stays = B.move(S.INTERRUPTING, S.INTERRUPTING)
    body = ev.InterruptOrdered(**stays, info=interrupted.job.info, then_delete=True)
    interrupted.when(jobs.delete(force=True)).then(body)


# -- push again -------------------------------------------------------------------------------------

PROBLEM = ev.Info("push-failed", "The bucket is full.")
KEPT = (*FINALIZING, B.finalized(S.FAILED, PROBLEM, kept=True))


def test_volumes_that_were_kept_are_pushed_again() -> None:
    ordered = given(*KEPT).when(jobs.push_again())
    ordered.then(ev.PushOrdered(sync_id="s2"))
    ordered.after.when(jobs.push_again(sync_id="s3")).refused(WrongState, "pushed already (sync s2)")
    running = ordered.after.when(jobs.sync("RUNNING", sync_id="s2")).after
    done = running.when(jobs.sync("DONE", sync_id="s2"))
    assert (done.job.push_ordered, done.job.volumes_kept) == (None, False)
    assert (done.job.state, done.job.info.code) == (S.FAILED, PROBLEM.code)
    assert (
        done.job.info.message == f"{PROBLEM.message} Its data was pushed again since, and all of it arrived."
    )
    done.after.when(jobs.push_again()).refused(WrongState, "no volumes that were kept")
    notes = tuple(f"{name}: hard link, not pushed" for name in "abcde")
    volumes = (ev.VolumeProgress(volume=0, notes=notes[:1]), ev.VolumeProgress(volume=1, notes=notes[1:]))
    partly = running.when(jobs.sync("DONE", sync_id="s2", volumes=volumes))
    said = "; ".join(notes[:3])
    assert partly.job.info.message.endswith(f"since, but not everything was pushed: {said} and 2 more.")
    volumes = (ev.VolumeProgress(volume=0, notes=notes, left_out=4), ev.VolumeProgress(volume=1, left_out=9))
    counted = running.when(jobs.sync("DONE", sync_id="s2", volumes=volumes))
    assert counted.job.info.message.endswith(f"since, but not everything was pushed: {said} and 10 more.")
    remarked = (ev.VolumeProgress(volume=0, notes=("x: replaced meanwhile, not deleted",), left_out=0),)
    whole = running.when(jobs.sync("DONE", sync_id="s2", volumes=remarked))
    assert whole.job.info.message == done.job.info.message


def test_a_push_that_failed_again_keeps_the_volumes() -> None:
    ordered = given(*KEPT).when(jobs.push_again()).after
    failed = ordered.when(jobs.sync("FAILED", sync_id="s2"))
    assert (failed.job.push_ordered, failed.job.volumes_kept) == (None, True)
    failed.after.when(jobs.push_again(sync_id="s3")).then(ev.PushOrdered(sync_id="s3"))


def test_what_was_kept_of_a_run_that_we_lost_is_pushed() -> None:
    lost = in_state(S.RUNNING).when(jobs.fail(volumes_kept=True))
    assert (lost.job.state, lost.job.volumes_kept) == (S.ERROR, True)
    ordered = lost.after.when(jobs.push_again())
    ordered.then(ev.PushOrdered(sync_id="s2"))
    done = ordered.after.when(jobs.sync("DONE", sync_id="s2"))
    assert (done.job.state, done.job.volumes_kept) == (S.ERROR, False)
    nothing = in_state(S.RUNNING).when(jobs.fail()).after
    nothing.when(jobs.push_again()).refused(WrongState, "no volumes that were kept")


def test_what_was_kept_is_not_given_up_unasked() -> None:
    kept = given(*KEPT)
    kept.when(jobs.start()).refused(WrongState, "push it again first (jobyard job push-data), or start with")
    pushing = kept.when(jobs.push_again()).after
    pushing.when(jobs.start(discard_volumes=True)).refused(WrongState, "being pushed now (sync s2)")
    started = kept.when(jobs.start(discard_volumes=True))
    assert (started.job.state, started.job.run, started.job.volumes_kept) == (S.QUEUED, 2, False)
    pushed = pushing.when(jobs.sync("DONE", sync_id="s2")).after
    assert pushed.when(jobs.start()).job.run == 2


def test_a_job_is_not_deleted_unasked_while_it_is_pushed_again() -> None:
    ordered = given(*KEPT).when(jobs.push_again()).after
    ordered.when(jobs.delete()).refused(
        WrongState, "being pushed now (sync s2); wait until they are, or delete"
    )
    volumes = (ev.VolumeProgress(volume=0, total=3),)
    running = ordered.when(jobs.sync("RUNNING", sync_id="s2", volumes=volumes)).after
    running.when(jobs.delete()).refused(WrongState, "being pushed now")
    forced = running.when(jobs.delete(force=True))
    over = ev.DataSyncMoved("s2", "push", "FAILED", volumes, manual=True, message="The job was deleted.")
    forced.then(over, ev.JobDeleted())
    assert (forced.job.deleted, forced.job.push_ordered) == (True, None)
    before_it_began = ordered.when(jobs.delete(force=True))
    assert (before_it_began.job.deleted, before_it_began.job.push_ordered) == (True, None)
    done = running.when(jobs.sync("DONE", sync_id="s2")).after
    done.when(jobs.delete()).then(ev.JobDeleted())


def test_another_synchronisation_does_not_end_the_push() -> None:
    ordered = given(*KEPT).when(jobs.push_again()).after
    other = ordered.when(jobs.sync("DONE", sync_id="another"))
    assert (other.job.push_ordered, other.job.volumes_kept) == ("s2", True)

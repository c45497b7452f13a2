"""Deciding what users want of a job: submit, kill, start, delete, move its data, change it."""

from __future__ import annotations

from service.domain import commands as cmd
from service.domain import decide_edit, decide_keys, decide_volume
from service.domain import events as ev
from service.domain.context import Context, Decision, for_job, move, past_timeout
from service.domain.decide_project import project_of
from service.domain.decide_refusal import recorded
from service.domain.job import Job
from service.domain.quota import Quota
from service.domain.states import ENDED, MEANING, REACHABLE, STARTABLE, State
from service.errors import BudgetExceeded, Conflict, Invalid, NotFound, QuotaExceeded, WrongState

INTERRUPTED_BEFORE = ev.Info("interrupted", "The job was interrupted before anything had been made for it.")
INTERRUPTING = ev.Info("interrupting", MEANING[State.INTERRUPTING])


def decide(command: cmd.JobCommand, context: Context) -> list[Decision]:
    if isinstance(command, cmd.SubmitJob):
        return _submit(command, context)
    job = job_of(command, context)
    match command:
        case cmd.KillJob():
            return _kill(job, context)
        case cmd.StartJob():
            return _start(job, command, context)
        case cmd.DeleteJob():
            return _delete(job, command, context)
        case cmd.EditJob():
            return decide_edit.edited(job, command, context)
        case cmd.SetLabel():
            return decide_edit.labelled(job, command, context)
        case cmd.OpenExec():
            return _exec(job, command, context)
        case cmd.SyncData():
            return _sync(job, command, context)
        case cmd.EraseJob():
            return decide_keys.job_erased(job, command, context)
        case _:
            raise TypeError(f"no rule for {type(command).__name__}")


def job_of(command: cmd.JobCommand | cmd.RunCommand, context: Context) -> Job:
    """The command's job, if it is there, and in the command's project and scope.

    One that was deleted is there for whoever erases it.
    """
    job = context.job
    there = job is not None and (not job.deleted or isinstance(command, cmd.EraseJob))
    seen = there and job is not None and command.project in (None, job.project)
    if isinstance(command, cmd.JobCommand) and command.scope is not None and job is not None:
        seen = seen and command.scope.matches(job.spec.labels)
    if job is None or not seen:
        raise NotFound(f"there is no job {command.job}")
    return job


def quota_of(context: Context, project: str | None) -> Quota:
    if context.quota is None:
        raise NotFound(f"there is no project {project}")
    return context.quota


def _submit(command: cmd.SubmitJob, context: Context) -> list[Decision]:
    project = project_of(context, command.project)
    if context.job is not None:
        raise Conflict(f"job {command.job} exists already")
    spec = decide_volume.resolved(command.spec, project)
    resources = spec.resources
    price = context.prices.price(resources.flavor, context.now)
    if price is None:
        raise Invalid("resources.flavor", resources.flavor, "no price has been set for it")
    try:
        if context.budget is not None:
            context.budget.require(price[1], scoped=command.token_label is not None)
        quota_of(context, command.project).require(resources.kind, resources.units)
    except (BudgetExceeded, QuotaExceeded) as refusal:
        raise recorded(refusal, context, spec, command.user, command.job, command.project) from None
    body = ev.JobSubmitted(
        source=None,
        target=State.QUEUED,
        kind=resources.kind,
        units=resources.units,
        spec=spec,
        user=command.user,
        token_label=command.token_label,
    )
    return [Decision(body=body, occurred_at=context.now, project=command.project, job=command.job, run=1)]


def _kill(job: Job, context: Context) -> list[Decision]:
    if job.state in ENDED:
        raise WrongState(f"job {job.id} is {job.state}: only a job that has not ended can be interrupted")
    return interrupt(job, context)


def interrupt(job: Job, context: Context, *, then_delete: bool = False) -> list[Decision]:
    """An interrupt order, in any live state. One that is under way already needs no second."""
    job, decided = past_timeout(job, context.now, context.now)
    match job.state:
        case State.QUEUED:
            target, info = State.INTERRUPTED, INTERRUPTED_BEFORE
        case State.INITIALIZING | State.PENDING | State.RUNNING:
            target, info = State.INTERRUPTING, INTERRUPTING
        case _:
            if job.interrupt_ordered and (job.delete_when_ended or not then_delete):
                return []
            target, info = job.state, job.info
    body = ev.InterruptOrdered(
        **move(job, target), info=info, then_delete=then_delete or job.delete_when_ended
    )
    return decided + for_job(job, context.now, body)


def _start(job: Job, command: cmd.StartJob, context: Context) -> list[Decision]:
    if job.state not in STARTABLE:
        allowed = ", ".join(sorted(STARTABLE))
        raise WrongState(f"job {job.id} is {job.state}: only a job that is {allowed} can be started again")
    if job.push_ordered is not None:
        raise WrongState(f"job {job.id}: its volumes are being pushed now (sync {job.push_ordered})")
    if job.volumes_kept and not command.discard_volumes:
        raise WrongState(
            f"job {job.id}: what run {job.run} made could not be pushed and was kept: push it again first"
            " (jobyard job push-data), or start with discardVolumes=true (--discard-volumes) to remove it"
        )
    project = project_of(context, job.project)
    decide_keys.require_secrets(job, project)
    decide_volume.require_volumes(job.spec, project)
    resources = job.spec.resources
    price = context.prices.price(resources.flavor, context.now)
    try:
        if context.budget is not None and price is not None:
            context.budget.require(price[1], scoped=command.scope is not None)
        quota_of(context, job.project).require(resources.kind, resources.units)
    except (BudgetExceeded, QuotaExceeded) as refusal:
        raise recorded(refusal, context, job.spec, job.user, job.id, job.project) from None
    info = ev.Info("queued", "The job was started again and is about to be processed.")
    return for_job(job, context.now, ev.RunQueued(**move(job, State.QUEUED), info=info), run=job.run + 1)


def _delete(job: Job, command: cmd.DeleteJob, context: Context) -> list[Decision]:
    if job.state in ENDED:
        return _delete_ended(job, command, context)
    if not command.force:
        raise WrongState(f"job {job.id} is {job.state}: stop it first, or delete it with force")
    orders = interrupt(job, context, then_delete=True)
    if job.state is State.QUEUED:
        orders += for_job(job, context.now, ev.JobDeleted())
    return orders


def _delete_ended(job: Job, command: cmd.DeleteJob, context: Context) -> list[Decision]:
    """What is being rescued from it is not given up unasked; and with it goes the order to do so."""
    if job.push_ordered is None:
        return for_job(job, context.now, ev.JobDeleted())
    if not command.force:
        raise WrongState(
            f"job {job.id}: its volumes are being pushed now (sync {job.push_ordered}); wait until they are,"
            " or delete it with force"
        )
    known = next((sync for sync in job.data_syncs if sync.id == job.push_ordered), None)
    over = ev.DataSyncMoved(
        sync_id=job.push_ordered,
        direction="push",
        state="FAILED",
        volumes=known.volumes if known else (),
        manual=True,
        message="The job was deleted.",
    )
    return for_job(job, context.now, over, ev.JobDeleted())


def _exec(job: Job, command: cmd.OpenExec, context: Context) -> list[Decision]:
    # Who has come by SSH may see how the process takes its stop order.
    allowed = {State.RUNNING} if command.session == "exec" else REACHABLE
    if job.state not in allowed:
        raise WrongState(f"job {job.id} is {job.state}: commands can be run in it while it is RUNNING")
    body = ev.ExecOpened(
        exec_id=command.exec_id, command=command.command, tty=command.tty, session=command.session
    )
    return for_job(job, context.now, body)


#: In which of its states a run's data comes and goes by itself.
_BY_ITSELF = {
    State.QUEUED: "its data is pulled when it has a place",
    State.INITIALIZING: "its data is being pulled",
    State.PENDING: "its data has just been pulled",
}


def _sync(job: Job, command: cmd.SyncData, context: Context) -> list[Decision]:
    if job.state in ENDED:
        return _push_again(job, command, context)
    job, decided = past_timeout(job, context.now, context.now)
    if job.state is not State.RUNNING:
        why = _BY_ITSELF.get(job.state, "its data is pushed as it ends")
        raise WrongState(f"job {job.id} is {job.state}: {why}; ask while it is RUNNING")
    _require_movable(job, command)
    same = {"direction": command.direction, "volume": command.volume}
    if any({"direction": order.direction, "volume": order.volume} == same for order in job.sync_orders):
        raise WrongState(f"job {job.id}: such a {command.direction} was ordered and has not ended yet")
    body = ev.SyncOrdered(sync_id=command.sync_id, direction=command.direction, volume=command.volume)
    return decided + for_job(job, context.now, body)


def _require_movable(job: Job, command: cmd.SyncData) -> None:
    """Raise `Invalid` when there is nothing that could be moved that way."""
    volumes = job.spec.volumes if command.volume is None else (job.spec.volumes[command.volume],)
    field = "direction" if command.volume is None else "volume"
    if not volumes:
        raise Invalid(field, _named(job, command), "the job has no volumes, so there is nothing to move")
    if command.direction == "push" and not any(volume.push_to for volume in volumes):
        raise Invalid(
            field,
            _named(job, command),
            "none of it is pushed: a volume that is RO or has no data store is not",
        )
    if command.direction == "pull" and not any(volume.pull_from for volume in volumes):
        raise Invalid(field, _named(job, command), "none of it is pulled: it has no source")


def _named(job: Job, command: cmd.SyncData) -> str:
    """What the command asks for, as its field shows it."""
    return command.direction if command.volume is None else job.spec.volumes[command.volume].mount_path


def _push_again(job: Job, command: cmd.SyncData, context: Context) -> list[Decision]:
    if not job.volumes_kept or command.direction != "push":
        raise WrongState(
            f"job {job.id} is {job.state} and has no volumes that were kept after a failed push;"
            " while a job is RUNNING its data can be pulled and pushed"
        )
    if command.volume is not None:
        raise Invalid("volume", _named(job, command), "of a job that has ended all kept volumes are pushed")
    if job.push_ordered is not None:
        raise WrongState(f"job {job.id}: its volumes are being pushed already (sync {job.push_ordered})")
    return for_job(job, context.now, ev.PushOrdered(sync_id=command.sync_id))

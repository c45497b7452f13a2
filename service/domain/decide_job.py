"""Deciding what users want of a job: submit, kill, start, delete, push again."""

from __future__ import annotations

from service.domain import commands as cmd
from service.domain import events as ev
from service.domain.context import Context, Decision, for_job, move, past_timeout
from service.domain.decide_project import project_of
from service.domain.job import Job
from service.domain.quota import Quota
from service.domain.states import ENDED, MEANING, STARTABLE, State
from service.errors import Conflict, Invalid, NotFound, WrongState

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
        case cmd.PushAgain():
            return _push_again(job, command, context)
        case _:
            raise TypeError(f"no rule for {type(command).__name__}")


def job_of(command: cmd.JobCommand | cmd.RunCommand, context: Context) -> Job:
    """The command's job, if it is there and in the command's project."""
    job = context.job
    if job is None or job.deleted or command.project not in (None, job.project):
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
    spec = command.spec
    for index, volume in enumerate(spec.volumes):
        for field, place in (("dataStore", volume.source), ("targetDataStore", volume.target)):
            if place is not None and place.alias not in project.data_stores:
                raise Invalid(
                    f"volumes[{index}].{field}.alias",
                    place.alias,
                    f"the project's data stores are {', '.join(sorted(project.data_stores)) or 'none yet'}",
                )
    resources = spec.resources
    if context.prices.price(resources.flavor, context.now) is None:
        raise Invalid("resources.flavor", resources.flavor, "no price has been set for it")
    quota_of(context, command.project).require(resources.kind, resources.units)
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
    resources = job.spec.resources
    quota_of(context, job.project).require(resources.kind, resources.units)
    info = ev.Info("queued", "The job was started again and is about to be processed.")
    return for_job(job, context.now, ev.RunQueued(**move(job, State.QUEUED), info=info), run=job.run + 1)


def _delete(job: Job, command: cmd.DeleteJob, context: Context) -> list[Decision]:
    if job.state in ENDED:
        return for_job(job, context.now, ev.JobDeleted())
    if not command.force:
        raise WrongState(f"job {job.id} is {job.state}: stop it first, or delete it with force")
    orders = interrupt(job, context, then_delete=True)
    if job.state is State.QUEUED:
        orders += for_job(job, context.now, ev.JobDeleted())
    return orders


def _push_again(job: Job, command: cmd.PushAgain, context: Context) -> list[Decision]:
    if job.state not in ENDED or not job.volumes_kept:
        raise WrongState(f"job {job.id} is {job.state} and has no volumes that were kept after a failed push")
    if job.push_ordered is not None:
        raise WrongState(f"job {job.id}: its volumes are being pushed already (sync {job.push_ordered})")
    return for_job(job, context.now, ev.PushOrdered(sync_id=command.sync_id))

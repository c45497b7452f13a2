"""Deciding that secrets are erased, and that nothing is taken which is sealed under a key that is gone."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from service.domain import commands as cmd
from service.domain import events as ev
from service.domain.context import Context, Decision, for_job
from service.domain.directory import Project
from service.domain.job import Job
from service.domain.spec import Sealed, sealed_by
from service.domain.states import ENDED
from service.errors import Conflict, Erased


def job_erased(job: Job, command: cmd.EraseJob, context: Context) -> list[Decision]:
    """Also of a job that was deleted: its events are there, and so are its secrets."""
    if job.erased_at is not None:
        return []
    if job.state not in ENDED:
        raise Conflict(
            f"job {job.id} is {job.state}: its secrets can be erased when it has ended; stop it first"
        )
    gone = context.project.destroyed_keys if context.project else ()
    others = {key for key in command.sealed_under - set(command.key_ids) if sealed_by(key) not in gone}
    if others:
        raise Conflict(
            f"job {job.id} is from a version in which secrets were sealed under the project's key alone "
            f"({', '.join(sorted(others))}): they can be erased with the whole project's"
        )
    return for_job(job, context.now, ev.KeyDestroyed(key_ids=command.key_ids))


def project_erased(command: cmd.EraseProject, project: Project, context: Context) -> list[Decision]:
    if context.live_jobs:
        jobs = "1 job that has" if context.live_jobs == 1 else f"{context.live_jobs} jobs that have"
        raise Conflict(f"project {project.id} has {jobs} not ended or still pushes: stop them first")
    if not set(command.key_ids) - set(project.destroyed_keys):
        return []
    body = ev.ProjectKeyDestroyed(key_ids=command.key_ids)
    return [Decision(body=body, occurred_at=context.now, project=project.id)]


def require_secrets(job: Job, project: Project) -> None:
    """A job starts again only with all that it had. Raises `Erased`."""
    if job.erased_at is not None or job.created_position < project.erased_position:
        whose = "its secrets" if job.erased_at is not None else "the project's secrets"
        raise Erased(f"job {job.id} cannot be started again: {whose} were erased; submit a new job")


def require_key(command: cmd.Command, project: Project | None) -> None:
    """Nothing is recorded that nobody could open. Raises `Erased`.

    Whoever seals and then submits may have sealed under a key that was destroyed in between.
    """
    if project is None or not project.destroyed_keys:
        return
    if any(sealed_by(sealed.key_id) in project.destroyed_keys for sealed in _sealed_in(command)):
        raise Erased("the project's key was destroyed meanwhile: send the request again")


def _sealed_in(value: object) -> Iterator[Sealed]:
    """All that is sealed in a command, wherever in it."""
    match value:
        case Sealed():
            yield value
        case Struct():
            for name in value.__struct_fields__:
                yield from _sealed_in(getattr(value, name))
        case tuple() | list() | frozenset():
            for each in value:
                yield from _sealed_in(each)
        case dict():
            yield from _sealed_in(tuple(value.values()))

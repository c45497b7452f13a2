"""Deciding changes to a job's specification: its timeout, whether it restarts, its labels."""

from __future__ import annotations

from datetime import timedelta

from service.domain import commands as cmd
from service.domain import events as ev
from service.domain.context import Context, Decision, for_job, past_timeout
from service.domain.job import Job
from service.domain.labels import check_count, check_label
from service.domain.reading import check_timeout
from service.domain.states import State
from service.errors import Invalid


def edited(job: Job, command: cmd.EditJob, context: Context) -> list[Decision]:
    """In every state: what the current run no longer needs counts for the next."""
    job, decided = past_timeout(job, context.now, context.now)
    timeout = job.spec.timeout if command.timeout is None else command.timeout
    restart = command.timeout_auto_restart
    restarts = job.spec.timeout_auto_restart if restart is None else restart
    check_timeout(timeout, restarts=restarts)
    timeout_at = job.timeout_at
    if job.state is State.RUNNING and job.started_at is not None:
        timeout_at = job.started_at + timedelta(seconds=timeout)
        if timeout_at <= context.now and timeout_at != job.timeout_at:
            ran = int((context.now - job.started_at).total_seconds())
            raise Invalid(
                "timeout", timeout, f"the job runs for {ran} s already: a later time, or interrupt it (kill)"
            )
    body = ev.JobEdited(timeout=timeout, timeout_auto_restart=restarts, timeout_at=timeout_at)
    if (timeout, restarts) == (job.spec.timeout, job.spec.timeout_auto_restart):
        return decided
    return decided + for_job(job, context.now, body)


def labelled(job: Job, command: cmd.SetLabel, context: Context) -> list[Decision]:
    """A label set or taken away. A token never moves a job out of its own scope."""
    check_label("name", command.name)
    if command.value is not None:
        check_label("value", command.name, command.value)
    if job.spec.labels.get(command.name) == command.value:
        return []
    labels = {name: value for name, value in job.spec.labels.items() if name != command.name}
    if command.value is not None:
        labels[command.name] = command.value
    check_count(labels)
    if command.scope is not None and (term := command.scope.unmet(labels)) is not None:
        raise Invalid(
            "value",
            command.value,
            f"your token is limited to jobs with {term}: it cannot move one out of them",
        )
    return for_job(job, context.now, ev.LabelSet(name=command.name, value=command.value))

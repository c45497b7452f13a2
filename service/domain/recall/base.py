"""What an inverse is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from service.domain.commands import Command
from service.domain.directory import Project
from service.domain.events import Event
from service.domain.job import Job


class Before(NamedTuple):
    """What there was before the command: the job and the project that it names, and the lease in force."""

    job: Job | None = None
    project: Project | None = None
    epoch: int = 0


#: From the event that tells of a command to the command; None where the event does not hold what was asked.
Inverse = Callable[[Event, Before], Command | None]


def of_job(event: Event) -> dict[str, Any]:
    """What every order of a user about a job says."""
    return {"project": event.project, "job": event.job}


def of_run(event: Event, before: Before) -> dict[str, Any]:
    """What every report of a supervisor says. It was taken, so it was about the run that was current then."""
    job = before.job
    return {
        "project": event.project,
        "job": event.job,
        "run": event.run if job is None else job.run,
        "engine": getattr(event.body, "engine", None) or (job.engine if job else None) or "",
        "epoch": getattr(event.body, "epoch", before.epoch),
    }

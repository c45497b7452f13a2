"""What a command is decided on, and what comes out of deciding."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec.structs import replace

from service.domain import events as ev
from service.domain.bills.run import Run
from service.domain.budget import Standing
from service.domain.directory import PriceBook, Project, Token
from service.domain.job import TIMED_OUT, Job
from service.domain.quota import Quota
from service.domain.refusals import Refusals
from service.domain.states import State
from service.domain.webhooks import Webhooks


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What a command is decided on: the state of what it names, as of the end of the ledger.

    `now` is the database's clock; `epoch` is the current lease epoch of the command's engine; `stores_used`
    are the data stores, by alias, of jobs that have not ended: loaded for a command that removes one;
    `live_jobs` is how many have not, or have a push to come: loaded for one that erases the project;
    `refusals` are those of the project, for a command that may add one; `bill` is that of the run which a
    command about bills names; `budget` is how the project stands at its own, None without one; `position`
    is that of the last event there is; `webhooks` are loaded for commands about them.
    """

    now: datetime
    job: Job | None = None
    quota: Quota | None = None
    project: Project | None = None
    token: Token | None = None
    prices: PriceBook = PriceBook()
    epoch: int | None = None
    stores_used: frozenset[str] = frozenset()
    budget: Standing | None = None
    live_jobs: int = 0
    refusals: Refusals = Refusals()
    bill: Run | None = None
    webhooks: Webhooks | None = None
    position: int = 0


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """One event to append. `occurred_at` never lies in the future."""

    body: ev.Body
    occurred_at: datetime
    project: str | None = None
    job: UUID | None = None
    run: int | None = None


def for_job(job: Job, at: datetime, *bodies: ev.Body, run: int | None = None) -> list[Decision]:
    """Decisions about a job's current run (or `run`), all at one time."""
    return [
        Decision(body=body, occurred_at=at, project=job.project, job=job.id, run=run or job.run)
        for body in bodies
    ]


def move(job: Job, target: State) -> dict[str, Any]:
    """The fields every move carries."""
    resources = job.spec.resources
    return {"source": job.state, "target": target, "kind": resources.kind, "units": resources.units}


def past_timeout(job: Job, at: datetime, now: datetime) -> tuple[Job, list[Decision]]:
    """What must be said first of something that happened to a run `at` a time after its timeout.

    The timeout is a fact of the clock: it was reached then, whether or not anybody was there to see it, and
    the run is billed and judged as if somebody had been. Answers the job as it is after that.
    """
    if job.state is not State.RUNNING or job.timeout_at is None or at <= job.timeout_at:
        return job, []
    reached_at = observed(job.timeout_at, job, now)
    decided = for_job(job, reached_at, ev.TimeoutReached(**move(job, State.TIMEOUT)))
    told = {"timed_out": True, "info": TIMED_OUT}
    return replace(job, state=State.TIMEOUT, last_transition_at=reached_at, **told), decided


def observed(at: datetime, job: Job, now: datetime) -> datetime:
    """A time that another clock told us, kept between the job's last transition and now."""
    return max(job.last_transition_at, min(at, now))

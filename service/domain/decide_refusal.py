"""A refusal for a limit of the project becomes an event, while its caller is refused all the same."""

from __future__ import annotations

from typing import TypeVar
from uuid import UUID

from service.domain import events as ev
from service.domain.context import Context, Decision
from service.domain.refusals import MOST_A_MINUTE, digest_of, own_left_out
from service.domain.spec import JobSpec
from service.errors import BudgetExceeded, Rejected

R = TypeVar("R", bound=Rejected)


def recorded(refusal: R, context: Context, spec: JobSpec, user: str, wanted: UUID, project: str | None) -> R:
    """The same refusal, which now carries its event, unless the same one was recorded a moment ago.

    `refusal.facts` become the event's arguments; what was spent is no part of it, as some of its readers see
    few of the project's jobs. The job named is the one of the context, if it is there; otherwise `wanted` is
    the id that it would have had.
    """
    digest, known = digest_of(spec), context.job
    recent = context.refusals.since(context.now)
    again = any((each.digest, each.code) == (digest, refusal.code) for each in recent)
    if again or len(recent) >= MOST_A_MINUTE:
        return refusal
    said = refusal.recorded if isinstance(refusal, BudgetExceeded) else refusal.message
    body = ev.SubmissionRefused(
        info=ev.Info(refusal.code, said, dict(refusal.facts)),
        resources=spec.resources,
        image=spec.image,
        name=spec.name,
        digest=digest,
        user=user,
        labels=own_left_out(spec.labels),
        wanted=None if known else str(wanted),
    )
    refusal.decisions = (
        Decision(body=body, occurred_at=context.now, project=project, job=known.id if known else None),
    )
    return refusal

"""`refusals`: one row a project, with what was refused a moment ago: it is not recorded again at once."""

from __future__ import annotations

from projections.fold import Fold
from service.domain.events import Event, SubmissionRefused
from service.domain.refusals import Refusals


def key(event: Event) -> str | None:
    return event.project if isinstance(event.body, SubmissionRefused) else None


def evolve(row: Refusals | None, event: Event) -> Refusals:
    body: SubmissionRefused = event.body
    return (row or Refusals()).with_one(body.digest, body.info.code, event.recorded_at)


FOLD = Fold("refusals", Refusals, key, evolve, SubmissionRefused)

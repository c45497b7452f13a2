"""`status`: one row a job, with everything a read of it answers. The rules are `service.domain.evolve`."""

from __future__ import annotations

from projections.fold import Fold
from service.domain.events import JOB_BODIES, Event
from service.domain.evolve import evolve
from service.domain.ids import text_of
from service.domain.job import Job

_BODIES = frozenset(JOB_BODIES)


def key(event: Event) -> str | None:
    return text_of(event.job) if type(event.body) in _BODIES else None


FOLD = Fold("status", Job, key, evolve, JOB_BODIES)

"""`status`: one row a job, with everything a read of it answers. The rules are `service.domain.evolve`."""

from __future__ import annotations

from msgspec.structs import replace

from projections.fold import Fold
from service.domain.events import JOB_BODIES, Event
from service.domain.evolve import VISITS_KEPT, evolve
from service.domain.ids import text_of
from service.domain.job import Job

_BODIES = frozenset(JOB_BODIES)


def key(event: Event) -> str | None:
    return text_of(event.job) if type(event.body) in _BODIES else None


def _read_as(row: Job) -> Job:
    return replace(row, history=row.history[-VISITS_KEPT:])


FOLD = Fold("status", Job, key, evolve, JOB_BODIES, _read_as)

"""`quota`: one row a project, with the units in use and the most it may use."""

from __future__ import annotations

from msgspec.structs import replace

from projections.fold import Fold
from service.domain.events import Event, Move, ProjectCreated, QuotaSet
from service.domain.quota import Quota
from service.domain.states import units_counted

#: What it is made of. A quota of the past is folded from these alone, out of all that a project has.
CONCERNED = (Move, ProjectCreated, QuotaSet)


def key(event: Event) -> str | None:
    return event.project if isinstance(event.body, CONCERNED) else None


def evolve(row: Quota | None, event: Event) -> Quota:
    quota = row or Quota(project=event.project or "")
    match event.body:
        case Move() as move:
            return quota.changed(move.kind, units_counted(move.source, move.target, move.units))
        case ProjectCreated() | QuotaSet() as limits:
            return replace(quota, cpu=limits.cpu, gpu=limits.gpu)
        case _:
            raise ValueError(f"event {event.position}: {event.type} does not concern a quota")


FOLD = Fold("quota", Quota, key, evolve, CONCERNED)

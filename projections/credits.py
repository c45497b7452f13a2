"""`credits`: one row a credit that was granted to a project, and not to a run of it."""

from __future__ import annotations

import msgspec

from projections.billing import ordered
from projections.fold import Fold
from service.domain.bills.run import Adjustment
from service.domain.events import CreditGranted, Event


class ProjectCredit(msgspec.Struct, frozen=True, rename="camel"):
    project: str
    adjustment: Adjustment


def key(event: Event) -> str | None:
    """Each is a row of its own, by its position."""
    alone = isinstance(event.body, CreditGranted) and event.job is None
    return str(event.position) if alone else None


def evolve(_row: ProjectCredit | None, event: Event) -> ProjectCredit:
    return ProjectCredit(project=event.project or "", adjustment=ordered(event))


FOLD = Fold("credits", ProjectCredit, key, evolve, CreditGranted)

"""What what-if knows of the past: each run that was wanted, when it was asked for, and how it then went on.

A run's course from its place on (data, start, work, end) is taken as it was measured; when it gets its place
is for the simulation to say.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from msgspec.structs import replace

from service.domain.bills.run import Run
from service.domain.events import Event
from service.domain.pricing import Interval, Marks
from service.domain.spec import Resources

RunKey = tuple[UUID, int]


class Asked(NamedTuple):
    """Somebody wanted it then; `position` is the event that says so."""

    at: datetime
    position: int


@dataclass(frozen=True)
class Course:
    """How a run went on from its place. Times from there; None: it has not come to that yet.

    `bill` is its line of the bill, with the times as they were (`placed_at` is its beginning). `lag` is how
    long the supervisor took to place it once there was room.
    """

    bill: Run
    placed_at: datetime
    uncounted: timedelta | None
    over: timedelta | None
    engine: str = ""
    gpus: tuple[str, ...] = ()
    lag: timedelta = timedelta()
    positions: tuple[int, int, int] = (0, 0, 0)
    estimated: bool = False

    def shifted(self, to: datetime) -> tuple[Marks, tuple[Interval, ...]]:
        """The times of its bill, had it got its place at `to`."""
        by, marks = to - self.placed_at, self.bill.marks
        moved = {name: at + by for name in _TIMES if (at := getattr(marks, name)) is not None}
        gaps = tuple(Interval(gap.start + by, gap.end + by) for gap in self.bill.absences)
        return replace(marks, **moved), gaps


_TIMES = ("initializing_at", "pending_at", "running_at", "left_running_at", "finalizing_at", "ended_at")


@dataclass
class Piece:
    """One run that was wanted. `asked` are the times it was asked for, in order: all but the last were
    refused, and the last too when `taken` is false.

    `labels` are those of work that was never taken; a job's own are in its row.
    `after`: the run that has to be over before; `at_once`: it follows that one by itself, at its timeout.
    `given_up`: an order ended it while it still was queued.
    """

    key: RunKey
    project: str
    name: str
    resources: Resources
    digest: str
    asked: list[Asked]
    taken: bool = True
    after: RunKey | None = None
    at_once: bool = False
    course: Course | None = None
    given_up: Asked | None = None
    queued_position: int = 0
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def placed_at(self) -> datetime | None:
        """When it really got its place."""
        known = self.course is not None and not self.course.estimated
        return self.course.placed_at if self.course is not None and known else None


@dataclass
class History:
    """All that a simulation from `begin` to `end` starts from. `pieces` by run, in the ledger's order."""

    begin: datetime
    end: datetime
    pieces: dict[RunKey, Piece] = field(default_factory=dict)
    yard: list[Event] = field(default_factory=list)
    gaps: list[Interval] = field(default_factory=list)
    limits: list[Event] = field(default_factory=list)
    prices: list[Event] = field(default_factory=list)

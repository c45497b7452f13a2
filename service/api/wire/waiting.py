"""Why a job waits, or waited."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Literal

import msgspec

from projections.waiting.reasons import Before, Constraint
from projections.waiting.simulate import Outcome
from projections.waiting.why import Phase
from service.api.wire.base import Wire
from service.api.wire.jobs import Info
from service.domain.asked import Asked
from service.domain.states import State


class JobAhead(Wire, frozen=True):
    """A job of yours that goes before, and why so."""

    id: str
    name: str
    why: Before


class JobHolding(Wire, frozen=True):
    """A job of yours that holds some of what is lacking: CPUs, bytes of memory or GPUs."""

    id: str
    name: str
    amount: int


class Others(Wire, frozen=True):
    """Jobs that are not yours to see, and how much of what is lacking they hold together."""

    jobs: int = 0
    amount: int = 0


class WaitStretch(Wire, frozen=True):
    """One reason, from `since` to `until`. `constraint` is what binds; `info` says it in words.

    `sharePercent` is the part of the node that your project's jobs had. `positions` are the events that began
    it; none: time alone did. `more` counts your own jobs that are ahead or hold and are not listed. `merged`:
    neighbours of one reason were too many and are told as one.
    """

    phase: Phase
    since: datetime
    until: datetime
    seconds: Decimal
    constraint: Constraint
    info: Info
    ahead: list[JobAhead]
    ahead_of_others: Others
    held_by: list[JobHolding]
    held_by_others: Others
    more: int
    share_percent: int
    positions: tuple[int, ...]
    merged: bool


class RefusedBefore(Wire, frozen=True):
    """The same work was refused before it was taken; the same refusal is recorded once a minute at most."""

    times: int
    since: datetime
    last: datetime
    info: Info
    positions: list[int]


class Why(Wire, frozen=True):
    """`waitSeconds` is the time from the queue to RUNNING, or as far as the run came: exactly that of the
    stretches before RUNNING together. `waiting`: it goes on. What FINALIZING waits for is told besides.
    """

    job: str
    name: str
    run: int
    state: State
    as_of: datetime
    waiting: bool
    queued_at: datetime
    wait_seconds: Decimal
    refused: RefusedBefore | None
    stretches: list[WaitStretch]


class QuotaAskedOtherwise(Asked, frozen=True):
    """Your project's limits in units, from the window's beginning; one that is left out stays as it was."""

    cpu: int | None = None
    gpu: int | None = None


class CapacityAsked(Asked, frozen=True):
    """What jobs can have of the node together; memory in bytes. What is left out stays as it was."""

    cpus: int | None = None
    memory: int | None = None
    gpus: int | None = None


class WhatIfAsked(Asked, frozen=True):
    """`from` and `to` are times such as 2026-01-31T12:00:00Z; without `to` it is now. Without a quota and a
    capacity nothing changes, and the answer is how exact the model is. `policy` is the bill's, if another.
    """

    since: str = msgspec.field(name="from")
    until: str | None = msgspec.field(default=None, name="to")
    quota: QuotaAskedOtherwise | None = None
    capacity: CapacityAsked | None = None
    policy: Literal["2021-05", "2023-12", "2026-01"] | None = None


class RunFate(Wire, frozen=True):
    """What became of a run. `waitSeconds`: from when it was first asked for to its place; to the window's end
    if it has none. `cost` is null while nobody can know it."""

    outcome: Outcome
    placed_at: datetime | None
    wait_seconds: Decimal | None
    cost: Decimal | None


class WhatIfRun(Wire, frozen=True):
    """A run of yours: as it was, as the model has it with nothing changed, and as it would be.

    The differences are of the last two. `estimated`: it never ran, and is given the course of runs like it.
    """

    job: str
    run: int
    name: str
    asked_at: datetime
    actual: RunFate
    baseline: RunFate
    what_if: RunFate
    difference_seconds: Decimal | None
    moved_seconds: Decimal | None
    cost_difference: Decimal | None
    currency: str
    estimated: bool
    changed: bool


class ModelError(Wire, frozen=True):
    """The model's own error on what really happened, in the places of `runs`: half are off by `medianSeconds`
    or less, all by `mostSeconds`. `otherwise` runs came to another end."""

    runs: int
    median_seconds: Decimal
    most_seconds: Decimal
    otherwise: int


class WhatIfSums(Wire, frozen=True):
    """`sooner` and `later` count runs that get their place in both; `taken` and `lost` those that get one
    only if, or only as it is. `waitSeconds` adds up all differences. `costDifference`: null for others, and
    where some cost is not known or there are several currencies."""

    runs: int
    changed: int
    sooner: int
    later: int
    taken: int
    lost: int
    wait_seconds: Decimal
    cost_difference: Decimal | None = None
    currency: str = ""


class WhatIf(Wire, frozen=True):
    """`items` are runs of yours, those that change most first; `more` are not listed. `others` are the runs
    that share the node and are not yours to see."""

    since: datetime = msgspec.field(name="from")
    until: datetime = msgspec.field(name="to")
    model_error: ModelError
    items: list[WhatIfRun]
    more: int
    totals: WhatIfSums
    others: WhatIfSums

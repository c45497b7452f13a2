"""Tokens, projects, quotas and bills."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Literal

from msgspec import UNSET, UnsetType

from service.api.wire.base import Metadata, Wire
from service.domain.asked import Asked
from service.domain.bills.run import Adjustment
from service.domain.directory import Role
from service.domain.flavors import Kind
from service.domain.pricing import PolicyName


class MeQuotas(Wire, frozen=True):
    """The most units of each kind that the project's jobs may hold together."""

    resources: dict[str, int]
    storage: int = 0


class Me(Wire, frozen=True):
    name: str
    role: Role
    tenant: str
    quotas: MeQuotas
    token_kind: Literal["app"] = "app"  # noqa: S105 (a kind, not a value)
    label_selector: str | UnsetType = UNSET


class Quota(Wire, frozen=True):
    """Units at most, and in use by jobs that are QUEUED, INITIALIZING, PENDING or RUNNING."""

    project: str
    cpu: int
    gpu: int
    cpu_used: int
    gpu_used: int


class BillLine(Wire, frozen=True):
    """One run. `original` is what the policy bills for its minutes; `adjustments` are the credits and
    corrections beside it, which no policy changes, and `amount` is what it comes to with them. `credited`
    runs failed through our fault and cost nothing; `positions` are the events that prove the line;
    `windowStart` and `windowEnd` are what the policy bills, once it is over. Of that, `absentSeconds` are
    left out, as nobody looked after the run: `minutes` is the rest, rounded up. A run that was not placed
    yet has no flavor and no price: `hourlyPrice` is null."""

    job: str
    run: int
    flavor: str
    kind: Kind
    units: int
    hourly_price: Decimal | None
    currency: str
    policy: PolicyName
    minutes: int
    original: Decimal
    amount: Decimal
    adjustments: tuple[Adjustment, ...]
    credited: bool
    window_start: datetime | None
    window_end: datetime | None
    absent_seconds: Decimal
    positions: tuple[int, ...]


class Bill(Wire, frozen=True):
    """`total` is the sum of the amounts; null when the lines are in several currencies."""

    items: list[BillLine]
    total: Decimal | None
    currency: str


class TokenSpec(Wire, frozen=True):
    name: str
    role: Role
    label_selector: str | UnsetType = UNSET


class TokenStatus(Wire, frozen=True):
    """`value` is there once: in the answer that made the token. A repeat of that request has none."""

    value: str | UnsetType = UNSET
    version: int = 1


class Token(Wire, frozen=True):
    id: str
    created_at: datetime
    updated_at: datetime
    spec: TokenSpec
    status: TokenStatus


class TokenList(Wire, frozen=True):
    items: list[Token]
    metadata: Metadata


class TokenAsked(Asked, frozen=True):
    """`labelSelector` is `name=value`: the token sees only such jobs, and its jobs get that label."""

    name: str
    role: Role
    label_selector: str | None = None


class Project(Wire, frozen=True):
    id: str
    name: str
    created_at: datetime
    cpu: int
    gpu: int


class ProjectList(Wire, frozen=True):
    items: list[Project]
    metadata: Metadata


class ProjectMade(Wire, frozen=True):
    """A new project and its first administrator's token."""

    project: Project
    token: Token


class ProjectAsked(Asked, frozen=True):
    id: str
    name: str | None = None
    cpu: int | None = None
    gpu: int | None = None


class QuotaAsked(Asked, frozen=True):
    """What is left out stays as it is."""

    cpu: int | None = None
    gpu: int | None = None

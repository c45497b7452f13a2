"""What a job would cost, and whether it would be taken."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from service.api.wire.base import Wire
from service.domain.flavors import Kind
from service.domain.pricing import PolicyName


class PriceSource(Wire, frozen=True):
    """The price list that is in force: the event that set it, and since when it holds."""

    position: int
    valid_from: datetime


class QuotaRoom(Wire, frozen=True):
    """Units of the job's kind: in use now, and at most."""

    allows: bool
    used: int
    limit: int


class BudgetRoom(Wire, frozen=True):
    """Figures are null for a token that does not see all of the project's jobs."""

    allows: bool
    amount: Decimal | None
    spent: Decimal | None
    remaining: Decimal | None
    currency: str
    period_end: datetime


class NodeRoom(Wire, frozen=True):
    """`holds`: the node could hold the job when nothing else runs there; `lacks` says of what it has too
    little."""

    name: str
    holds: bool
    lacks: str | None


class EarlierRuns(Wire, frozen=True):
    """Of the same image and command, on as many units of the same flavor, among the project's newest jobs.
    Costs are of their begun minutes at the present price."""

    runs: int
    median_minutes: int
    p90_minutes: int
    median_cost: Decimal
    p90_cost: Decimal
    jobs: tuple[str, ...]


class Refusal(Wire, frozen=True):
    """What a submit would answer now."""

    status: int
    code: str
    message: str


class Estimate(Wire, frozen=True):
    """`hourlyPrice` is of one unit; costs are of all `units`. `costAtTimeout` is what RUNNING costs until the
    timeout, of one run: `restarts` says that a job would begin another one then, without end. What the
    policy bills besides, such as the time in which data is pulled, comes on top."""

    flavor: str
    kind: Kind
    units: int
    hourly_price: Decimal
    currency: str
    price_list: PriceSource
    policy: PolicyName
    cost_per_minute: Decimal
    cost_per_hour: Decimal
    timeout: int
    minutes_at_timeout: int
    cost_at_timeout: Decimal
    restarts: bool
    quota: QuotaRoom
    budget: BudgetRoom | None
    nodes: tuple[NodeRoom, ...]
    earlier: EarlierRuns | None
    would_be_refused: Refusal | None
    as_of: datetime

"""Budgets: what a project may spend in a month, and has."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from service.api.wire.base import Wire
from service.domain.asked import Asked


class Budget(Wire, frozen=True):
    """`amount` null: there is none, and nothing is refused for it; `spent` is then what the month comes to.

    `spent` is the month's statement so far, credits and corrections included, and what live runs would add
    if they were over at `asOf`. A month is one of UTC; `periodEnd` is its first moment after. At each share
    in `warnAt` there is one warning a month; `warned` are those that were given in this one.
    """

    project: str
    amount: Decimal | None
    currency: str
    warn_at: tuple[Decimal, ...]
    period: str
    period_start: datetime
    period_end: datetime
    spent: Decimal
    remaining: Decimal | None
    warned: tuple[Decimal, ...]
    live_runs: int
    as_of: datetime


class BudgetAsked(Asked, frozen=True):
    """`amount` null takes the budget away; it and the shares are text in decimal digits. Without a currency
    it is that of the service's price list; without `warnAt` there are warnings at 0.5, 0.8 and 1."""

    amount: str | None
    currency: str | None = None
    warn_at: list[str] | None = None

"""What a project may spend in a month, and what its spending reached."""

from __future__ import annotations

from decimal import Decimal

from service.domain.events.base import Body


class BudgetSet(Body, frozen=True):
    """The most that the project's runs may cost in a calendar month (UTC); None: it has no budget any more.

    `warn_at` are the shares of it, ascending, at each of which there is a warning once a month.
    """

    amount: Decimal | None
    currency: str
    warn_at: tuple[Decimal, ...] = ()


class BudgetWarned(Body, frozen=True):
    """The spending of `period` (`2026-11`) reached a share of the budget: it was `spent`, of `limit`.

    Written by the command after which it was found: the one that brought it about, or the first to look.
    """

    share: Decimal
    spent: Decimal
    limit: Decimal
    currency: str
    period: str

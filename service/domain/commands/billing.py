"""What overseers want done about bills and prices."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

from service.domain.commands.base import Command


class SetPrices(Command, frozen=True):
    """Hourly prices per unit, by flavor; from now on when no other time is given."""

    prices: dict[str, Decimal]
    currency: str
    valid_from: datetime | None = None
    source: Literal["catalogue", "order"] = "catalogue"


class BillCommand(Command, frozen=True, kw_only=True):
    """Base of what changes what a project pays. `cites` are positions of events that are there."""

    reason: str
    cites: tuple[int, ...] = ()


class GrantCredit(BillCommand, frozen=True, kw_only=True):
    """To a run when one is named, else to the project."""

    amount: Decimal
    currency: str
    job: UUID | None = None
    run: int | None = None


class CorrectBill(BillCommand, frozen=True, kw_only=True):
    """What the run's line should be: an amount; or minutes, a price or both, from which it follows.
    What is not named is as the last correction left it, else as in the line."""

    job: UUID
    run: int
    amount: Decimal | None = None
    minutes: int | None = None
    hourly_price: Decimal | None = None

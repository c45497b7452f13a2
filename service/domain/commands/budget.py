"""What is wanted of a project's budget."""

from __future__ import annotations

from decimal import Decimal

from service.domain.commands.base import Command
from service.domain.commands.engine import EngineCommand


class SetBudget(Command, frozen=True):
    """`amount` None takes the budget away."""

    amount: Decimal | None
    currency: str = "EUR"
    warn_at: tuple[Decimal, ...] = (Decimal("0.5"), Decimal("0.8"), Decimal(1))


class CheckBudget(EngineCommand, frozen=True):
    """Look whether the spending of a project has reached a share: live runs cost more by the minute."""

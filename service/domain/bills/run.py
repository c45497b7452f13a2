"""The bill of one run, as the fold `billing` keeps it, and what it is under another policy or price."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Literal

import msgspec
from msgspec.structs import replace

from service.domain.bills.faults import RULE, Fault
from service.domain.flavors import Kind
from service.domain.pricing import (
    DEFAULT_POLICY,
    Interval,
    Marks,
    PolicyName,
    amount,
    billed_minutes,
)

ZERO = Decimal("0.000000")

#: The rule of an adjustment that an overseer ordered.
ORDER = "order"

AdjustmentKind = Literal["credit", "correction"]


class Adjustment(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """What is shown beside an original line, and never in its place: `amount` is added to it.

    `amount` is below nothing for a credit; of a correction it is the difference that it makes. `rule` is
    `platform-fault`, or `order` when an overseer ordered it. `position` is the event that it is, or by which
    the rule holds; `cites` are those that it refers to. `minutes` and `hourly_price` are what a correction
    says they should have been.
    """

    kind: AdjustmentKind
    rule: str
    amount: Decimal
    currency: str
    reason: str
    at: datetime
    position: int
    cites: tuple[int, ...] = ()
    minutes: int | None = None
    hourly_price: Decimal | None = None


class Run(msgspec.Struct, frozen=True, rename="camel", kw_only=True, omit_defaults=True, gc=False):
    """The bill of one run. `minutes` and `amount` are final once its billed window is over, and stay.

    `fault` is why it is credited in full by the rule; `ordered` are the credits and corrections that an
    overseer ordered. `positions` are the events that the line stands on.
    """

    job: str
    run: int
    project: str
    kind: Kind
    units: int
    flavor: str = ""
    hourly_price: Decimal = Decimal(0)
    currency: str = ""
    marks: Marks = Marks()
    absences: tuple[Interval, ...] = ()
    policy: PolicyName = DEFAULT_POLICY
    minutes: int = 0
    amount: Decimal = ZERO
    fault: Fault | None = None
    ordered: tuple[Adjustment, ...] = ()
    positions: tuple[int, ...] = ()

    @property
    def credited(self) -> bool:
        """Whether it was our fault, so that it costs nothing."""
        return self.fault is not None

    @property
    def adjustments(self) -> tuple[Adjustment, ...]:
        """All that stands beside the line: the credit by rule first, then what was ordered."""
        if self.fault is None or not self.amount:
            return self.ordered
        by_rule = Adjustment(
            kind="credit",
            rule=RULE,
            amount=-self.amount,
            currency=self.currency,
            reason=self.fault.reason,
            at=self.fault.at,
            position=self.fault.position,
            cites=(self.fault.position,),
        )
        return (by_rule, *self.ordered)

    @property
    def corrected_to(self) -> tuple[int, Decimal]:
        """Minutes and hourly price as the last correction that named any left them, else the line's."""
        for each in reversed(self.ordered):
            if each.minutes is not None or each.hourly_price is not None:
                # One of the first corrections named only what it changed: the other was the line's.
                minutes = self.minutes if each.minutes is None else each.minutes
                return minutes, self.hourly_price if each.hourly_price is None else each.hourly_price
        return self.minutes, self.hourly_price

    @property
    def net(self) -> Decimal:
        """What the run costs after all credits and corrections."""
        return self.amount + sum((each.amount for each in self.adjustments), ZERO)


def under(run: Run, policy: PolicyName | None = None) -> Run:
    """The same run as another policy bills it (None: the one it has)."""
    name = policy or run.policy
    minutes = billed_minutes(run.marks, run.absences, name)
    return replace(run, policy=name, minutes=minutes, amount=amount(minutes, run.units, run.hourly_price))


def priced(run: Run, hourly_price: Decimal, currency: str) -> Run:
    """The same run at another price."""
    return under(replace(run, hourly_price=hourly_price, currency=currency))

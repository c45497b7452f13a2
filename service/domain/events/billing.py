"""What overseers order about bills. Nothing that was billed is edited: these stand beside it."""

from __future__ import annotations

from decimal import Decimal

from service.domain.events.base import Body


class CreditGranted(Body, frozen=True):
    """`amount`, more than nothing, is given back: of the run that the envelope names, or of the project's
    bill. `cites` are the positions of the events that it is given for."""

    amount: Decimal
    currency: str
    reason: str
    cites: tuple[int, ...] = ()


class BillCorrected(Body, frozen=True):
    """The run's line should have been `corrected`. `difference` is that less `before`, which is what the
    line and its earlier corrections come to; `minutes` and `hourly_price` say how it comes about:
    neither when an amount was named; of old ones perhaps one alone, and the other was the line's."""

    before: Decimal
    corrected: Decimal
    difference: Decimal
    currency: str
    reason: str
    minutes: int | None = None
    hourly_price: Decimal | None = None
    cites: tuple[int, ...] = ()

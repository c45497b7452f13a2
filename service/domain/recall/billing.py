"""From what overseers ordered about bills and prices back to their orders."""

from __future__ import annotations

from service.domain import commands as cmd
from service.domain import events as ev
from service.domain.events import Event
from service.domain.recall.base import Before, Inverse


def _prices_set(event: Event, _before: Before) -> cmd.Command:
    body: ev.PricesSet = event.body
    return cmd.SetPrices(
        prices=body.prices, currency=body.currency, valid_from=body.valid_from, source=body.source
    )


def _credit_granted(event: Event, _before: Before) -> cmd.Command:
    body: ev.CreditGranted = event.body
    return cmd.GrantCredit(
        project=event.project,
        job=event.job,
        run=event.run,
        amount=body.amount,
        currency=body.currency,
        reason=body.reason,
        cites=body.cites,
    )


def _bill_corrected(event: Event, _before: Before) -> cmd.Command:
    """An amount was named, or what it follows from: then the amount must come out again."""
    body: ev.BillCorrected = event.body
    if event.job is None or event.run is None:
        raise ValueError(f"event {event.position}: a correction is of a run")
    named = body.minutes is None and body.hourly_price is None
    return cmd.CorrectBill(
        project=event.project,
        job=event.job,
        run=event.run,
        amount=body.corrected if named else None,
        minutes=body.minutes,
        hourly_price=body.hourly_price,
        reason=body.reason,
        cites=body.cites,
    )


INVERSES: dict[type[ev.Body], Inverse] = {
    ev.PricesSet: _prices_set,
    ev.CreditGranted: _credit_granted,
    ev.BillCorrected: _bill_corrected,
}

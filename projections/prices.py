"""`prices`: the price book, in one row."""

from __future__ import annotations

from projections.fold import Fold
from service.domain.directory import PriceBook, PriceEntry
from service.domain.events import Event, PricesSet

KEY = "book"


def key(event: Event) -> str | None:
    return KEY if isinstance(event.body, PricesSet) else None


def evolve(row: PriceBook | None, event: Event) -> PriceBook:
    body: PricesSet = event.body
    entry = PriceEntry(
        valid_from=body.valid_from,
        prices=body.prices,
        currency=body.currency,
        position=event.position,
        source=body.source,
        recorded_at=event.recorded_at,
    )
    return PriceBook(entries=(*(row.entries if row else ()), entry))


FOLD = Fold("prices", PriceBook, key, evolve, PricesSet)

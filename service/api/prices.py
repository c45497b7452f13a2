"""/v1/prices: the price book, and new lists for it."""

from __future__ import annotations

from datetime import datetime

from service.api import wire
from service.api.call import Call
from service.api.errors import Said
from service.api.query import Query
from service.domain import commands as cmd
from service.domain.bills import reading
from service.domain.bills.book import Listed, listed
from service.domain.flavors import check_flavor_name
from service.domain.nearest import hint
from service.errors import Invalid


class PricesOf(Query, frozen=True):
    """Of one flavor, or of all."""

    flavor: str | None = None


async def find(call: Call) -> wire.PriceList:
    asked: PricesOf = call.query
    if asked.flavor is not None:
        check_flavor_name("flavor", asked.flavor)
    book, now = await call.ledger.prices(), await call.ledger.now()
    found = [each for each in listed(book, now) if asked.flavor in (None, each.flavor)]
    return wire.PriceList(items=[_view(each) for each in found])


async def create(call: Call) -> wire.PriceList:
    """Answers what was set, as the book has it then."""
    asked: wire.PricesAsked = call.body
    settings = call.service.parts.settings
    usual = settings.currency
    book = await call.ledger.prices()
    known = sorted({*settings.catalogue.ids(), *(flavor for e in book.entries for flavor in e.prices)})
    prices = {}
    for flavor, text in asked.prices.items():
        if flavor not in known:
            raise Invalid(f"prices.{flavor}"[:120], Said("unknown flavor"), _nearest(flavor, known))
        prices[flavor] = reading.price(f"prices.{flavor}", text)
    command = cmd.SetPrices(
        prices=prices,
        currency=usual if asked.currency is None else reading.currency("currency", asked.currency),
        valid_from=_valid_from(asked.valid_from),
        source="order",
    )
    (event,) = (await call.submit(command)).events
    then, now = await call.ledger.prices(), await call.ledger.now()
    return wire.PriceList(items=[_view(e) for e in listed(then, now) if e.entry.position == event.position])


def _valid_from(text: str | None) -> datetime | None:
    return reading.moment("validFrom", text) if text is not None else None


def _nearest(flavor: str, known: list[str]) -> str:
    return hint(flavor, known) or f"the flavors are {', '.join(known)}"


def _view(each: Listed) -> wire.Price:
    return wire.Price(
        flavor=each.flavor,
        hourly_price=each.entry.prices[each.flavor],
        currency=each.entry.currency,
        valid_from=each.entry.valid_from,
        valid_to=each.until,
        in_force=each.in_force,
        source=each.entry.source,
        recorded_at=each.entry.recorded_at,
        position=each.entry.position,
    )

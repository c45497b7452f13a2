"""What is asked about bills and prices, and what is answered of a replay, a book, and an order."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Literal

from msgspec import field

from service.api.wire.base import Wire
from service.domain.asked import Asked
from service.domain.bills.book import PriceAsked
from service.domain.bills.compare import Compared, Sums
from service.domain.bills.statement import AsOf
from service.domain.pricing import PolicyName


class ReplayAsked(Asked, frozen=True):
    """The runs whose billed windows ended from `from` on and before `to`, under `policy` (null: each as it
    is), at the prices at which they were placed, or of `priceBook`, or of the ledger's own book as it is now
    (`ledgerPrices`). With `differing` only the lines that differ are answered; the sums are of all."""

    policy: PolicyName | None = None
    price_book: list[PriceAsked] | None = None
    ledger_prices: bool | None = None
    since: str | None = field(default=None, name="from")
    until: str | None = field(default=None, name="to")
    differing: bool | None = None
    project: str | None = None


class Replay(Wire, frozen=True):
    """`runs` were compared, of which `differ` are not the same and `unpriced` have no price in the book."""

    project: str
    policy: PolicyName | None
    as_of: AsOf
    runs: int
    differ: int
    unpriced: int
    lines: list[Compared]
    totals: list[Sums]


class CreditAsked(Asked, frozen=True):
    """`amount` is text in decimal digits. With `job` and `run` it is for that run, else for the project."""

    amount: str
    reason: str
    currency: str | None = None
    job: str | None = None
    run: int | None = None
    project: str | None = None
    cites: list[int] | None = None


class CorrectionAsked(Asked, frozen=True):
    """What the line of a run should be: `amount`; or `minutes`, `hourlyPrice` or both, from which it
    follows: what is not named of these two is as the run's last correction left it, else as its line says."""

    job: str
    run: int
    reason: str
    amount: str | None = None
    minutes: int | None = None
    hourly_price: str | None = None
    project: str | None = None
    cites: list[int] | None = None


class Ordered(Wire, frozen=True):
    """A credit or correction that was recorded: `amount` is what it adds to the bill. `corrected` is what a
    correction makes of the line: `minutes` x `units` x `hourlyPrice` / 60, unless an amount was named."""

    position: int
    project: str
    job: str | None
    run: int | None
    amount: Decimal
    currency: str
    reason: str
    corrected: Decimal | None = None
    minutes: int | None = None
    units: int | None = None
    hourly_price: Decimal | None = None


class PricesAsked(Asked, frozen=True):
    """Hourly prices per unit by flavor, as text in decimal digits; from `validFrom` on, or from now."""

    prices: dict[str, str]
    valid_from: str | None = None
    currency: str | None = None


class Price(Wire, frozen=True):
    """One flavor's price in one list. `validTo`: from then on another list's price is in force; `inForce`: it
    is the one that a run placed now gets."""

    flavor: str
    hourly_price: Decimal
    currency: str
    valid_from: datetime
    valid_to: datetime | None
    in_force: bool
    source: Literal["catalogue", "order"]
    recorded_at: datetime | None
    position: int


class PriceList(Wire, frozen=True):
    items: list[Price]

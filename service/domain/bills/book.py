"""A price book that somebody hands in for a replay: checked as a whole, before anything is computed.

Each entry is one flavor's price from a time on, and until another time if it says so. Without `validTo` it
holds until the next entry of its flavor begins. Two entries of a flavor must not hold at one time. Gaps are
no fault of the book: a run that falls into one has no price, and the replay says so of it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple, Protocol

from service.domain.asked import Asked
from service.domain.bills import reading
from service.domain.directory import PriceBook, PriceEntry
from service.domain.flavors import check_flavor_name
from service.errors import Invalid

MAX_ENTRIES = 10_000
#: Later than any run.
FOR_EVER = datetime.max.replace(tzinfo=UTC)


class Prices(Protocol):
    """What a run can be priced by; `PriceBook`, the ledger's own, is one."""

    def price(self, flavor: str, at: datetime) -> tuple[Decimal, str] | None:
        """Hourly price per unit and currency in force at a time; None when there is none."""
        ...


class PriceAsked(Asked, frozen=True):
    """One entry: `hourlyPrice` is text in decimal digits, so that no reader makes a float of it; times are
    RFC 3339, or a day for its beginning in UTC. Without a `currency` it is in the service's own."""

    flavor: str
    hourly_price: str
    valid_from: str
    valid_to: str | None = None
    currency: str | None = None


class Span(NamedTuple):
    """A flavor's price from `start` on and before `end`; `entry` counts from 0 as they were written."""

    start: datetime
    end: datetime
    price: Decimal
    currency: str
    entry: int


class GivenBook:
    """Prices by flavor, each list of spans in order and without overlap. Made by `read_book`."""

    def __init__(self, spans: dict[str, list[Span]]) -> None:
        self._spans = spans
        self._starts = {flavor: [span.start for span in found] for flavor, found in spans.items()}

    @property
    def flavors(self) -> list[str]:
        return sorted(self._spans)

    def price(self, flavor: str, at: datetime) -> tuple[Decimal, str] | None:
        index = bisect_right(self._starts.get(flavor, []), at) - 1
        if index < 0:
            return None
        span = self._spans[flavor][index]
        return (span.price, span.currency) if at < span.end else None


def read_book(field: str, entries: Sequence[PriceAsked], usual: str) -> GivenBook:
    """`usual`: the currency of an entry that names none. Raises `Invalid` that names the entry, and for an
    overlap both."""
    if not 1 <= len(entries) <= MAX_ENTRIES:
        raise Invalid(field, f"{len(entries)} entries", f"1 to {MAX_ENTRIES}")
    by_flavor: dict[str, list[tuple[Span, bool]]] = defaultdict(list)
    for index, entry in enumerate(entries):
        at = f"{field}[{index}]"
        check_flavor_name(f"{at}.flavor", entry.flavor)
        ends = entry.valid_to is not None
        span = Span(
            start=reading.moment(f"{at}.validFrom", entry.valid_from),
            end=reading.moment(f"{at}.validTo", entry.valid_to) if entry.valid_to is not None else FOR_EVER,
            price=reading.price(f"{at}.hourlyPrice", entry.hourly_price),
            currency=reading.currency(f"{at}.currency", usual if entry.currency is None else entry.currency),
            entry=index,
        )
        if span.end <= span.start:
            raise Invalid(
                f"{at}.validTo", entry.valid_to, f"it must be later than validFrom, {stamp(span.start)}"
            )
        by_flavor[entry.flavor].append((span, ends))
    return GivenBook({flavor: _in_order(field, flavor, found) for flavor, found in by_flavor.items()})


def _in_order(field: str, flavor: str, found: list[tuple[Span, bool]]) -> list[Span]:
    found.sort(key=lambda each: (each[0].start, each[0].entry))
    spans: list[Span] = []
    for index, (span, ends) in enumerate(found):
        following = found[index + 1][0] if index + 1 < len(found) else None
        if following is not None:
            if following.start == span.start or (ends and following.start < span.end):
                raise Invalid(f"{field}[{following.entry}]", _words(flavor, following), _overlap(field, span))
            if not ends:
                span = span._replace(end=following.start)
        spans.append(span)
    return spans


def _words(flavor: str, span: Span) -> str:
    return f"{flavor} from {stamp(span.start)}"


def _overlap(field: str, span: Span) -> str:
    until = "" if span.end == FOR_EVER else f" to {stamp(span.end)}"
    return (
        f"{field}[{span.entry}] holds from {stamp(span.start)}{until}, and two prices of a flavor "
        "must not hold at one time"
    )


class Listed(NamedTuple):
    """One flavor's price in one list of the ledger's book: from `entry.valid_from` on and before `until`,
    from when on another list's is in force (None: as long as nothing else is set)."""

    flavor: str
    entry: PriceEntry
    until: datetime | None
    in_force: bool


def listed(book: PriceBook, now: datetime) -> list[Listed]:
    """Every price of the book, flavor by flavor, in the order of their validity. One that another list of the
    same validity took the place of has no time of its own."""
    found = []
    for flavor in sorted({flavor for entry in book.entries for flavor in entry.prices}):
        entries = [entry for entry in book.entries if flavor in entry.prices]
        entries.sort(key=lambda entry: (entry.valid_from, entry.position))
        current = book.entry(flavor, now)
        for index, entry in enumerate(entries):
            until = entries[index + 1].valid_from if index + 1 < len(entries) else None
            found.append(Listed(flavor, entry, until, entry is current))
    return found


def stamp(at: datetime) -> str:
    """A time in UTC, as short as it is exact."""
    there = at.astimezone(UTC).replace(tzinfo=None)
    return f"{there.isoformat()}Z"

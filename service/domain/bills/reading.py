"""Prices, amounts and times as people write them, read exactly. Errors name the field.

All money that is written anywhere is read here, from text: a number of JSON is refused, as many a writer
makes a float of it, and a number of YAML is taken as the text that it is written with.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal

from service.errors import Invalid

#: Digits after the point, of a price that is ordered and of an amount.
PRICE_DIGITS, AMOUNT_DIGITS = 9, 6
#: Keeps every amount exact: what a job can cost has fewer digits than a Decimal computes with.
MAX_PRICE = 1_000_000
MAX_AMOUNT = 1_000_000_000
MAX_BUDGET = 10**12
MAX_SHARE, SHARE_DIGITS = 10, 4

_DECIMAL = re.compile(r"\A-?[0-9]{1,20}(\.[0-9]{1,30})?\Z")
_DAY = re.compile(r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")
_TIME = re.compile(r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}")
_CURRENCY = re.compile(r"\A[A-Z]{3}\Z")


def price(field: str, text: str) -> Decimal:
    """A price per hour and unit, such as `0.03`. Raises `Invalid`."""
    return _decimal(field, text, "a price per hour and unit", MAX_PRICE, PRICE_DIGITS)


def money(field: str, text: str, most: int = MAX_AMOUNT) -> Decimal:
    """An amount, such as `14.40`. Raises `Invalid`."""
    return _decimal(field, text, "an amount", most, AMOUNT_DIGITS)


def share(field: str, text: str) -> Decimal:
    """A share of a budget, such as `0.8`. Raises `Invalid`."""
    return _decimal(field, text, "a share of the budget", MAX_SHARE, SHARE_DIGITS)


def digits(value: Decimal) -> int:
    """How many stand after the point."""
    exponent = value.as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _decimal(field: str, text: str, what: str, most: int, most_digits: int) -> Decimal:
    allowed = f"{what} in decimal digits, 0 to {most}, at most {most_digits} of them after the point"
    if not _DECIMAL.match(text):
        raise Invalid(field, text, allowed)
    value = Decimal(text)
    if not 0 <= value <= most or digits(value) > most_digits:
        raise Invalid(field, text, allowed)
    return abs(value)  # "-0" is none


def moment(field: str, text: str) -> datetime:
    """A time with its offset, or a day, which stands for its beginning in UTC. Raises `Invalid`."""
    allowed = "a time such as 2026-11-01T00:00:00Z, or a day such as 2026-11-01 for its beginning in UTC"
    if not (_DAY.match(text) or _TIME.match(text)):
        raise Invalid(field, text, allowed)
    try:
        found = datetime.fromisoformat(text)
        if _DAY.match(text):
            return found.replace(tzinfo=UTC)
        if found.utcoffset() is None:
            raise Invalid(field, text, allowed)
        return found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Invalid(field, text, allowed) from None


def currency(field: str, text: str) -> str:
    """Three capital letters, such as `EUR`: the one rule for all that names a currency. Raises `Invalid`."""
    if not _CURRENCY.match(text):
        raise Invalid(field, text, "three capital letters, as in ISO 4217: a currency such as EUR")
    return text

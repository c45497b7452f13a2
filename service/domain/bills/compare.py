"""A replayed bill beside the live one, line by line: what differs, by how much, and why.

The live side is what the run costs now: its line, the credit of the rule, and corrections. Credits that an
overseer granted are gifts and no part of either side.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal

import msgspec

from service.domain.bills.book import Prices, stamp
from service.domain.bills.run import ZERO, Run, priced, under
from service.domain.pricing import PolicyName, to_cents, window

#: What each policy bills, in words.
BILLS: dict[PolicyName, str] = {
    "2021-05": "from INITIALIZING to FINALIZING",
    "2023-12": "RUNNING alone",
    "2026-01": "from PENDING to the end of RUNNING",
}


class Side(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """One reckoning of a run. `amount` is after the credit by rule and, of the live one, corrections."""

    policy: PolicyName
    window_start: datetime | None
    window_end: datetime | None
    minutes: int
    hourly_price: Decimal
    currency: str
    amount: Decimal


class Compared(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """One run. `replayed` is null when the price book has no price for it; `difference` is null then, and
    when the currencies are not the same. `why` is empty when nothing differs."""

    job: str
    run: int
    flavor: str
    units: int
    live: Side
    replayed: Side | None
    difference: Decimal | None
    why: tuple[str, ...]
    positions: tuple[int, ...]

    @property
    def differs(self) -> bool:
        return bool(self.why)


class Sums(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Of one currency: what both sides come to, exactly and, of the difference, in cents. Runs without a
    price, or in another currency than before, are in none of them."""

    currency: str
    live: Decimal
    replayed: Decimal
    difference: Decimal
    difference_to_pay: Decimal


def compared(live: Run, again: Run, policy: PolicyName, book: Prices | None) -> Compared:
    """The live bill of a run beside the one that its events make under a policy, and, if there is one, at the
    prices that a book has for the time at which it was placed."""
    replayed = under(again, policy)
    found = True
    if book is not None:
        price = book.price(again.flavor, again.marks.initializing_at) if again.marks.initializing_at else None
        found = price is not None
        if price is not None:
            replayed = priced(replayed, *price)
    before, after = _side(live), _side(replayed)
    same_money = found and before.currency == after.currency
    return Compared(
        job=live.job,
        run=live.run,
        flavor=live.flavor,
        units=live.units,
        live=before,
        replayed=after if found else None,
        difference=after.amount - before.amount if same_money else None,
        why=tuple(_why(live, replayed, before, after)) if found else (_no_price(again),),
        positions=_positions(live, again),
    )


def sums(lines: Iterable[Compared]) -> tuple[Sums, ...]:
    """By currency, in the order of their names."""
    found: dict[str, list[Decimal]] = defaultdict(lambda: [ZERO, ZERO])
    for line in lines:
        add(found, line)
    return summed(found)


def add(found: dict[str, list[Decimal]], line: Compared) -> None:
    """Add a line to the sums so far: live and replayed, by currency."""
    if line.replayed is not None and line.difference is not None:
        both = found[line.live.currency]
        both[0] += line.live.amount
        both[1] += line.replayed.amount


def summed(found: dict[str, list[Decimal]]) -> tuple[Sums, ...]:
    return tuple(
        Sums(
            currency=currency,
            live=live,
            replayed=replayed,
            difference=replayed - live,
            difference_to_pay=to_cents(replayed - live),
        )
        for currency, (live, replayed) in sorted(found.items())
    )


def _side(run: Run) -> Side:
    billed = window(run.marks, run.policy)
    gifts = sum((each.amount for each in run.ordered if each.kind == "credit"), ZERO)
    return Side(
        policy=run.policy,
        window_start=billed.start if billed else None,
        window_end=billed.end if billed else None,
        minutes=run.minutes,
        hourly_price=run.hourly_price,
        currency=run.currency,
        amount=run.net - gifts,
    )


def _why(live: Run, again: Run, before: Side, after: Side) -> list[str]:
    """What is not the same, in sentences. A line may differ in its minutes and yet cost the same; the price
    of no minutes is no difference."""
    found = []
    if before.minutes != after.minutes and before.policy != after.policy:
        minutes = f"{after.minutes} and not {before.minutes} minutes"
        found.append(f"{after.policy} bills {BILLS[after.policy]}: {minutes}")
    elif before.minutes != after.minutes:
        found.append(f"the events make {after.minutes} minutes, and the live line has {before.minutes}")
    billed = before.minutes or after.minutes
    if before.currency != after.currency or (billed and before.hourly_price != after.hourly_price):
        was = f"{before.hourly_price} {before.currency}"
        found.append(f"the price is {after.hourly_price} {after.currency} and was {was}")
    if found or before.amount != after.amount:
        found += [
            f"the live line was corrected by {each.amount} (event {each.position})"
            for each in live.ordered
            if each.kind == "correction"
        ]
    if (live.fault is None) != (again.fault is None):
        found.append("only one of them is credited by the rule platform-fault")
    if not found and before.amount != after.amount:
        found.append(f"the events make {after.amount}, and the live line has {before.amount}")
    return found


def _no_price(run: Run) -> str:
    at = run.marks.initializing_at
    when = f" at {stamp(at)}" if at else ""
    return f"the price book has no price for {run.flavor}{when}, when the run was placed"


def _positions(live: Run, again: Run) -> tuple[int, ...]:
    """The events of the replay, and those that stand beside the live line."""
    beside = (each.position for each in live.adjustments)
    return tuple(sorted({*again.positions, *beside}))

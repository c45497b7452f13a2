"""Billing: from the times of a run to minutes and an amount, under a named policy.

Sources: the seed ("billing starts with the INITIALIZING step and ends when the FINALIZING step starts",
"only jobs that reach the RUNNING status are billed", "each commenced minute is billed completely") and
two later readings of OVHcloud's guides. Amounts are exact decimals, to a millionth of the currency.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Literal

import msgspec

from service.domain.states import State

PolicyName = Literal["2021-05", "2023-12", "2026-01"]
POLICIES: tuple[PolicyName, ...] = ("2021-05", "2023-12", "2026-01")
DEFAULT_POLICY: PolicyName = "2021-05"

_MINUTE = timedelta(minutes=1)
_MICRO = timedelta(microseconds=1)
_AMOUNT_STEP = Decimal("0.000001")
_CENT = Decimal("0.01")


class Interval(msgspec.Struct, frozen=True, rename="camel", gc=False):
    start: datetime
    end: datetime

    def overlap(self, other: Interval) -> timedelta:
        return max(min(self.end, other.end) - max(self.start, other.start), timedelta())


class Marks(msgspec.Struct, frozen=True, rename="camel", kw_only=True, omit_defaults=True, gc=False):
    """When a run got where. `left_running_at` is the process's end, the interrupt or the timeout."""

    initializing_at: datetime | None = None
    pending_at: datetime | None = None
    running_at: datetime | None = None
    left_running_at: datetime | None = None
    finalizing_at: datetime | None = None
    ended_at: datetime | None = None
    outcome: State | None = None

    @property
    def are_over(self) -> bool:
        """Whether the window is over that any policy bills."""
        return self.finalizing_at is not None or self.ended_at is not None


def window(marks: Marks, policy: PolicyName) -> Interval | None:
    """The stretch of time a policy bills; None when the run is not billed, or not yet over."""
    stop = marks.finalizing_at or marks.ended_at
    if marks.running_at is None or stop is None:
        return None
    left = marks.left_running_at or stop
    match policy:
        case "2021-05":
            start, end = marks.initializing_at, stop
        case "2023-12":
            start, end = marks.running_at, left
        case "2026-01":
            start, end = marks.pending_at, left
    if start is None:
        return None
    return Interval(start, max(start, end))


def billed_minutes(marks: Marks, absences: Sequence[Interval], policy: PolicyName) -> int:
    """Begun minutes in the window, without the time in which nobody looked after the run.

    A container that runs is worth its price even while we are away; waiting for us is not. So absences
    count only outside RUNNING.
    """
    billed = window(marks, policy)
    if billed is None:
        return 0
    return -((billed.end - billed.start - absent(marks, absences, policy)) // -_MINUTE)


def absent(marks: Marks, absences: Sequence[Interval], policy: PolicyName) -> timedelta:
    """The part of the window that is not billed, because nobody looked after the run."""
    if not absences:
        return timedelta()
    billed = window(marks, policy)
    if billed is None or marks.running_at is None:
        return timedelta()
    running = Interval(marks.running_at, marks.left_running_at or billed.end)
    return sum((_outside(gap, running, billed) for gap in _merged(absences)), timedelta())


def _merged(gaps: Sequence[Interval]) -> list[Interval]:
    """The same time, each moment once: after a supervisor died early, the next reports its gap too."""
    merged: list[Interval] = []
    for gap in sorted(gaps, key=lambda gap: gap.start):
        if merged and gap.start <= merged[-1].end:
            merged[-1] = Interval(merged[-1].start, max(merged[-1].end, gap.end))
        else:
            merged.append(gap)
    return merged


def _outside(gap: Interval, running: Interval, billed: Interval) -> timedelta:
    """How much of `gap` lies in `billed` but not in `running`."""
    start, end = max(gap.start, billed.start), min(gap.end, billed.end)
    if end <= start:
        return timedelta()
    clipped = Interval(start, end)
    return (end - start) - clipped.overlap(running)


def amount(minutes: int, units: int, hourly_price: Decimal) -> Decimal:
    """Price of `minutes` of `units` at a price per hour and unit, to a millionth, half to even."""
    return (hourly_price * units * minutes / 60).quantize(_AMOUNT_STEP, ROUND_HALF_EVEN)


def seconds(lasted: timedelta) -> Decimal:
    """Seconds, exactly."""
    return Decimal(lasted // _MICRO) / 1_000_000


def to_cents(total: Decimal) -> Decimal:
    """A statement's total as it is paid. What rounds to nothing has no sign."""
    cents = total.quantize(_CENT, ROUND_HALF_EVEN)
    return cents if cents else abs(cents)

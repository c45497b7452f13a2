"""What a job would cost, before it is submitted: by the price in force, and by what earlier runs took."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from service.domain.bills.run import Run
from service.domain.pricing import amount
from service.domain.spec import JobSpec

#: As many earlier jobs as are named.
JOBS_NAMED = 10
_MINUTE_S = 60
_HOUR_MINUTES = 60


class Cost(NamedTuple):
    """Of all units together. `at_timeout` is RUNNING until the timeout; what the policy bills besides, such
    as the time in which data is pulled, comes on top."""

    per_minute: Decimal
    per_hour: Decimal
    minutes_at_timeout: int
    at_timeout: Decimal


def cost(spec: JobSpec, hourly_price: Decimal) -> Cost:
    units = spec.resources.units
    minutes = -(-spec.timeout // _MINUTE_S)
    return Cost(
        per_minute=amount(1, units, hourly_price),
        per_hour=amount(_HOUR_MINUTES, units, hourly_price),
        minutes_at_timeout=minutes,
        at_timeout=amount(minutes, units, hourly_price),
    )


class Earlier(NamedTuple):
    """What earlier runs of the same image and command, on as many units of the same flavor, took; and what
    as many minutes cost at a price. `jobs` are some of theirs, the newest first."""

    runs: int
    median_minutes: int
    p90_minutes: int
    median_cost: Decimal
    p90_cost: Decimal
    jobs: tuple[str, ...]


def earlier(runs: Sequence[Run], hourly_price: Decimal) -> Earlier | None:
    """Of the bills of earlier runs, newest first. One that our fault ended, that is not over, or that was
    never RUNNING tells nothing. None when that is all of them."""
    told = [run for run in runs if run.minutes and run.fault is None and run.marks.outcome is not None]
    if not told:
        return None
    minutes = sorted(run.minutes for run in told)
    median, p90 = rank(minutes, 50), rank(minutes, 90)
    units = told[0].units
    return Earlier(
        runs=len(told),
        median_minutes=median,
        p90_minutes=p90,
        median_cost=amount(median, units, hourly_price),
        p90_cost=amount(p90, units, hourly_price),
        jobs=tuple(dict.fromkeys(run.job for run in told))[:JOBS_NAMED],
    )


def rank(values: Sequence[int], percent: int) -> int:
    """The smallest of the sorted values that so many percent of them do not exceed (nearest rank)."""
    return values[max(1, -(-len(values) * percent // 100)) - 1]

"""Estimates: what a job costs by the price, and what earlier runs tell of it."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from msgspec.structs import replace

from service.domain.bills.faults import Fault
from service.domain.bills.run import Run
from service.domain.estimate import cost, earlier, rank
from service.domain.pricing import Marks
from service.domain.states import State
from tests.support.jobs import spec

PRICE = Decimal("1.93")


def bill(minutes: int, job: str = "a", **changed: object) -> Run:
    run = Run(
        job=job,
        run=1,
        project="vision",
        kind="gpu",
        units=2,
        minutes=minutes,
        marks=Marks(outcome=State.DONE),
    )
    return replace(run, **changed)


def test_ovhclouds_worked_examples() -> None:
    """10 days of 2 CPUs are 14.40, 5 hours of 2 GPUs 19.30."""
    found = cost(spec(kind="cpu", units=2, timeout=10 * 86_400), Decimal("0.03"))
    assert found.at_timeout == Decimal("14.40")
    found = cost(spec(kind="gpu", units=2, timeout=5 * 3600), PRICE)
    assert found.at_timeout == Decimal("19.30")
    assert found.per_hour == Decimal("3.86")
    assert found.per_minute == Decimal("0.064333")


def test_a_begun_minute_of_the_timeout_counts_whole() -> None:
    assert cost(spec(timeout=61), PRICE).minutes_at_timeout == 2


def test_earlier_runs_tell_by_nearest_rank() -> None:
    found = earlier([bill(minutes, f"job-{minutes}") for minutes in range(20, 0, -1)], PRICE)
    assert found is not None
    assert (found.runs, found.median_minutes, found.p90_minutes) == (20, 10, 18)
    assert found.p90_cost == Decimal("1.158000")
    assert found.jobs == tuple(f"job-{minutes}" for minutes in range(20, 10, -1))


def test_what_tells_nothing_is_left_out() -> None:
    fault = Fault("ours", 1, datetime(2026, 1, 1, tzinfo=UTC))
    silent = [bill(0), bill(5, fault=fault), bill(5, marks=Marks())]
    assert earlier(silent, PRICE) is None
    found = earlier([*silent, bill(7), bill(7)], PRICE)
    assert found is not None
    assert (found.runs, found.median_minutes, found.jobs) == (2, 7, ("a",))


@pytest.mark.parametrize(("percent", "wanted"), [(50, 2), (90, 3), (1, 1), (100, 3)])
def test_ranks(percent: int, wanted: int) -> None:
    assert rank([1, 2, 3], percent) == wanted
    assert rank([4], percent) == 4

"""Measuring against a bare limit in the same run: both in turn, several rounds, the median of the ratios."""

from __future__ import annotations

import os
import statistics
from collections.abc import Awaitable, Callable, Sequence

import msgspec

ROUNDS = 5
#: Set by `--quick`.
QUICK = "JOBYARD_BENCH_QUICK"


def quick() -> bool:
    """Whether smaller amounts will do: to see that the benchmarks work, not to quote their figures."""
    return bool(os.environ.get(QUICK))


class Measure(msgspec.Struct, rename="camel"):
    """One comparison. Rates are in `unit`s a second; times, where `unit` is a time, are in it.

    `ratio` is ours to bare: the median of the rounds, and the extremes seen. `target` is the least that it
    should be, or with `at_most` the most.
    """

    name: str
    unit: str
    bare: float
    ours: float
    ratio: float
    ratio_min: float
    ratio_max: float
    rounds: int
    target: float | None = None
    at_most: bool = False

    def line(self) -> str:
        per = "" if self.at_most else "/s"
        return (
            f"{self.name:<48} bare {self.bare:>10,.1f} {self.unit}{per}   ours {self.ours:>10,.1f} "
            f"{self.unit}{per}   ratio {self.ratio:.2f} ({self.ratio_min:.2f} to {self.ratio_max:.2f}, "
            f"{self.rounds} rounds)" + _verdict(self.ratio, self.target, at_most=self.at_most)
        )


class Figure(msgspec.Struct, rename="camel"):
    """A figure with nothing bare to compare with: memory, a percentile, an idle share."""

    name: str
    unit: str
    value: float
    target: float | None = None
    at_most: bool = True

    def line(self) -> str:
        return f"{self.name:<48} {self.value:>10,.1f} {self.unit}" + _verdict(
            self.value, self.target, at_most=self.at_most
        )


def _verdict(value: float, target: float | None, *, at_most: bool) -> str:
    if target is None:
        return ""
    met = value <= target if at_most else value >= target
    return f"   {'at most' if at_most else 'at least'} {target:g}: {'met' if met else 'NOT MET'}"


async def compare(
    name: str,
    unit: str,
    bare: Callable[[], Awaitable[float]],
    ours: Callable[[], Awaitable[float]],
    rounds: int = ROUNDS,
    *,
    target: float | None = None,
    at_most: bool = False,
) -> Measure:
    """Run `bare` and `ours` in turn; each answers its rate, or with `at_most` its time. One unmeasured round
    first."""
    await bare()
    await ours()
    pairs = [(await bare(), await ours()) for _ in range(rounds)]
    return summed_up(name, unit, pairs, target=target, at_most=at_most)


def summed_up(
    name: str,
    unit: str,
    pairs: Sequence[tuple[float, float]],
    *,
    target: float | None = None,
    at_most: bool = False,
) -> Measure:
    """What pairs of (bare, ours) come to."""
    ratios = sorted(mine / limit for limit, mine in pairs)
    return Measure(
        name=name,
        unit=unit,
        bare=statistics.median(limit for limit, _ in pairs),
        ours=statistics.median(mine for _, mine in pairs),
        ratio=statistics.median(ratios),
        ratio_min=ratios[0],
        ratio_max=ratios[-1],
        rounds=len(pairs),
        target=target,
        at_most=at_most,
    )

"""Measuring against a bare limit in the same run: both in turn, several rounds, the median of the ratios."""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable

import msgspec

ROUNDS = 5


class Measure(msgspec.Struct, rename="camel"):
    """Rates in units of `unit` per second. `ratio` is ours to bare: median, and the extremes seen."""

    name: str
    unit: str
    bare: float
    ours: float
    ratio: float
    ratio_min: float
    ratio_max: float
    rounds: int

    def line(self) -> str:
        return (
            f"{self.name:<46} bare {self.bare:>10,.0f} {self.unit}/s   ours {self.ours:>10,.0f} {self.unit}/s"
            f"   ratio {self.ratio:.2f} ({self.ratio_min:.2f} to {self.ratio_max:.2f}, {self.rounds} rounds)"
        )


async def compare(
    name: str,
    unit: str,
    bare: Callable[[], Awaitable[float]],
    ours: Callable[[], Awaitable[float]],
    rounds: int = ROUNDS,
) -> Measure:
    """Run `bare` and `ours` in turn; each answers its rate. One unmeasured round first."""
    await bare()
    await ours()
    pairs = [(await bare(), await ours()) for _ in range(rounds)]
    ratios = sorted(mine / limit for limit, mine in pairs)
    return Measure(
        name=name,
        unit=unit,
        bare=statistics.median(limit for limit, _ in pairs),
        ours=statistics.median(mine for _, mine in pairs),
        ratio=statistics.median(ratios),
        ratio_min=ratios[0],
        ratio_max=ratios[-1],
        rounds=rounds,
    )

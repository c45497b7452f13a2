"""How often each run is looked at, so that all looking together takes a small share of a processor. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

#: The part of one processor that all looking may take together.
SHARE = 0.03


@dataclass
class Watching:
    """How many runs are watched; they share the time for it."""

    runs: int = 0

    @contextmanager
    def one_more(self) -> Iterator[None]:
        self.runs += 1
        try:
            yield
        finally:
            self.runs -= 1

    def pause_s(self, cost_s: float, least_s: float) -> float:
        """How long one run's next look has to wait, whose last one took `cost_s` of a processor."""
        return max(least_s, cost_s * self.runs / SHARE)

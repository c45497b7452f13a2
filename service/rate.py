"""How often something may be asked for: so many a second in the long run, and a burst, each for itself."""

from __future__ import annotations

import math
from collections.abc import Callable

from service.errors import TooMany

#: So many askers are counted at most; those that were idle long enough to owe nothing go first.
MOST_KEPT = 10_000
#: Sums of times are off by less: who comes exactly when he was told to is let in.
_ROUNDING_S = 1e-6


class Rates:
    """`burst`: how many who has not asked for long may ask for at once. `clock` is monotonic, in seconds."""

    def __init__(self, per_second: float, burst: float, clock: Callable[[], float]) -> None:
        self._each_s = 1 / per_second
        self._burst_s = burst / per_second
        self._clock = clock
        #: When, at the agreed rate, all that was let in will have been due.
        self._owed_at: dict[str, float] = {}

    def check(self, asker: str, why: str) -> None:
        """Once more. Raises `TooMany` with the reason and the time after which it would be let in.

        What is refused counts for nothing: who keeps asking is let in again when it is time.
        """
        now = self._clock()
        owed_at = max(self._owed_at.get(asker, now), now) + self._each_s
        wait_s = owed_at - now - self._burst_s
        if wait_s > _ROUNDING_S:
            raise TooMany(why, math.ceil(wait_s))
        if asker not in self._owed_at and len(self._owed_at) >= MOST_KEPT:
            self._owed_at = {each: at for each, at in self._owed_at.items() if at > now}
        self._owed_at[asker] = owed_at

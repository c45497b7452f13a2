"""What goes on failing is told when it begins, then ever more seldom, and once more when it is over."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

FIRST_PAUSE_S = 30.0
#: No more than so long passes without a word.
LONGEST_PAUSE_S = 300.0


class Over(NamedTuple):
    """How long it lasted, and how often it was seen."""

    seconds: float
    times: int


class Trouble:
    """One trouble at a time. `clock`: seconds of a clock that never goes back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._what: str | None = None
        self._began = self._next = self._pause_s = 0.0
        self._times = 0

    def seen(self, what: str) -> bool:
        """Whether it is to be told now; `what` tells one trouble from another, which is told at once."""
        now = self._clock()
        if self._what is None:
            self._began, self._times = now, 0
        self._times += 1
        if what != self._what:
            self._what, self._pause_s = what, FIRST_PAUSE_S
        elif now < self._next:
            return False
        else:
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        self._next = now + self._pause_s
        return True

    def over(self) -> Over | None:
        """That it works; what is over by that, if anything was in trouble."""
        if self._what is None:
            return None
        self._what = None
        return Over(self._clock() - self._began, self._times)

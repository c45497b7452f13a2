"""Whose large answer may be taken into memory next: so many are at once, and a few of one project.

A store may answer all of a project's requests with as much as an answer may have, and each takes its while to
be read. What waits for its turn holds the answer's beginning alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from service.errors import Unavailable
from service.rounds import Rounds

MOST = 8
#: Of them, for one who asks.
EACH = 2
#: For a permit; within the minute that a call may take.
WAIT_S = 45.0


class Permits:
    """Turns that go round by who asks, and that do not last longer than the call. Of one event loop."""

    def __init__(self, *, most: int = MOST, each: int = EACH, wait_s: float = WAIT_S) -> None:
        self._rounds, self._wait_s = Rounds(most, each), wait_s

    @property
    def held(self) -> int:
        return self._rounds.busy

    @property
    def waiting(self) -> int:
        return self._rounds.waiting_in_all()

    @contextmanager
    def call(self, asker: str) -> Iterator[Call]:
        """One call of a store, until its answer is read: however it ends, it gives back what it took."""
        made = Call(self, asker)
        before = _call.set(made)
        try:
            yield made
        finally:
            _call.reset(before)
            if made.has_permit:
                self._rounds.end(asker)

    async def _take(self, asker: str) -> None:
        try:
            async with asyncio.timeout(self._wait_s):
                await self._rounds.begin(asker)
        except TimeoutError:
            raise Unavailable(
                "the store's answer is large, and so many of these are being read that its turn did not "
                f"come within {self._wait_s:g} s; try again later"
            ) from None


class Call:
    """A call that is under way."""

    def __init__(self, permits: Permits, asker: str) -> None:
        self._permits, self._asker = permits, asker
        #: Its answer is a large one.
        self.has_permit = False

    async def take_permit(self) -> None:
        """Wait for the turn, unless it has come before. Raises Unavailable when it does not come in time."""
        if not self.has_permit:
            await self._permits._take(self._asker)
            self.has_permit = True


_call: ContextVar[Call] = ContextVar("call")


def call() -> Call:
    """The one within which this is."""
    return _call.get()

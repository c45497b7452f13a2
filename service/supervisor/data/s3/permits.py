"""Whose large answer may be taken into memory next: so many are at once, and a few of one project.

A store may answer all of a project's requests with as much as an answer may have, and each takes its while to
be read. What waits for its turn holds the answer's beginning alone.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from service.errors import Unavailable

MOST = 8
#: Of them, for one who asks.
EACH = 2
#: For a permit; within the minute that a call may take.
WAIT_S = 45.0


@dataclass
class _Line:
    """Who asks: how many permits are his now, and what waits for one."""

    held: int = 0
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)


class Permits:
    """Of one event loop. Who has fewest goes first, and of these who had his turn longest ago."""

    def __init__(self, *, most: int = MOST, each: int = EACH, wait_s: float = WAIT_S) -> None:
        self._most, self._each, self._wait_s = most, each, wait_s
        self._lines: OrderedDict[str, _Line] = OrderedDict()
        self.held = 0

    @property
    def waiting(self) -> int:
        return sum(len(line.waiting) for line in self._lines.values())

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
                self._give_back(asker)

    async def _take(self, asker: str) -> None:
        turn = asyncio.get_running_loop().create_future()
        line = self._lines.setdefault(asker, _Line())
        line.waiting.append(turn)
        self._go_on()
        try:
            async with asyncio.timeout(self._wait_s):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():  # it came, and he had left
                self._give_back(asker)
            elif turn in line.waiting:
                line.waiting.remove(turn)
                self._forget(asker)
            if isinstance(error, TimeoutError):
                raise Unavailable(
                    "the store's answer is large, and so many of these are being read that its turn did not "
                    f"come within {self._wait_s:g} s; try again later"
                ) from None
            raise

    def _give_back(self, asker: str) -> None:
        self.held -= 1
        self._lines[asker].held -= 1
        self._forget(asker)
        self._go_on()

    def _go_on(self) -> None:
        while self.held < self._most:
            ready = [who for who, line in self._lines.items() if line.waiting and line.held < self._each]
            asker = min(ready, key=lambda who: self._lines[who].held, default=None)
            if asker is None:
                return
            line = self._lines[asker]
            turn = line.waiting.popleft()
            if turn.done():  # he has left
                self._forget(asker)
                continue
            turn.set_result(None)
            line.held += 1
            self.held += 1
            self._lines.move_to_end(asker)

    def _forget(self, asker: str) -> None:
        """Once nothing of his is left."""
        line = self._lines[asker]
        if not (line.held or line.waiting):
            del self._lines[asker]


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

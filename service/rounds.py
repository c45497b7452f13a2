"""Turns that go round: a few have one at a time, and each owner has a line of his own in front of them.

Who asks for many waits for himself: whoever has fewest turns is next, and of these who had one longest ago.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class _Line:
    """An owner's: how many turns are his now, and who of his waits for one."""

    busy: int = 0
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)


class Rounds:
    """`at_once` turns for all, `each` of them for one owner at most (all, unless it is said). Of one event
    loop."""

    def __init__(self, at_once: int, each: int | None = None) -> None:
        self._at_once, self._each = at_once, each or at_once
        #: How many turns are somebody's now.
        self.busy = 0
        #: Whoever has his turn, or had it, stands at the end.
        self._lines: OrderedDict[str, _Line] = OrderedDict()

    @asynccontextmanager
    async def turn(self, owner: str) -> AsyncIterator[None]:
        await self.begin(owner)
        try:
            yield
        finally:
            self.end(owner)

    async def begin(self, owner: str) -> None:
        """Wait for a turn. It lasts until `end`, whatever becomes of who waited for it."""
        turn = asyncio.get_running_loop().create_future()
        self._lines.setdefault(owner, _Line()).waiting.append(turn)
        self._go_on()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._forget(owner)
            else:  # it had come by then
                self.end(owner)
            raise

    def end(self, owner: str) -> None:
        self.busy -= 1
        self._lines[owner].busy -= 1
        self._lines.move_to_end(owner)  # whoever came meanwhile has had none
        self._forget(owner)
        self._go_on()

    def waiting(self, owner: str) -> int:
        """How many of the owner's wait for their turn."""
        line = self._lines.get(owner)
        return 0 if line is None else sum(not turn.done() for turn in line.waiting)

    def waiting_in_all(self) -> int:
        return sum(self.waiting(owner) for owner in self._lines)

    def _go_on(self) -> None:
        while self.busy < self._at_once:
            ready = (who for who, line in self._lines.items() if line.waiting and line.busy < self._each)
            owner = min(ready, key=lambda who: self._lines[who].busy, default=None)
            if owner is None:
                return
            line = self._lines[owner]
            turn = line.waiting.popleft()
            if turn.done():
                self._forget(owner)  # who gave it up; it is still the owner's turn
                continue
            turn.set_result(None)
            line.busy += 1
            self.busy += 1
            self._lines.move_to_end(owner)

    def _forget(self, owner: str) -> None:
        """Who gave up; and the owner, once nothing of his is left."""
        line = self._lines.get(owner)
        if line is None:
            return
        line.waiting = deque(turn for turn in line.waiting if not turn.done())
        if not (line.busy or line.waiting):
            del self._lines[owner]

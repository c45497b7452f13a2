"""A lock on a row as Postgres has it: in the order of arrival, and with an end to waiting and to idleness."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol


class Holder(Protocol):
    """A session. `idle_until` is when it will have been idle in its transaction for as long as it may."""

    def idle_until(self) -> float: ...

    def end(self) -> None:
        """The server ends the session: it lets go of all its locks."""


class RowLock:
    """Who holds it keeps it until its transaction ends, whichever way."""

    def __init__(self) -> None:
        self.holder: Holder | None = None
        self._waiting: deque[tuple[asyncio.Future[None], Holder]] = deque()

    async def take(self, session: Holder, most_s: float) -> None:
        """Raises `TimeoutError` after `most_s` seconds in the queue."""
        if self.holder is None or self.holder is session:
            self.holder = session
            return
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        waiting = (turn, session)
        self._waiting.append(waiting)
        until = loop.time() + most_s
        try:
            while not turn.done():
                idle_until = self.holder.idle_until()
                if idle_until <= loop.time():
                    self.holder.end()
                elif until <= loop.time():
                    raise TimeoutError
                else:
                    await asyncio.wait((turn,), timeout=min(until, idle_until) - loop.time())
        except BaseException:
            if turn.done():
                self.give(session)
            else:
                self._waiting.remove(waiting)
            raise

    def hand(self, before: Holder, after: Holder) -> None:
        """Whoever holds it for the other from now on."""
        if self.holder is before:
            self.holder = after

    def give(self, session: Holder) -> None:
        """Let go of it, if it is held by that session: the next in line has it."""
        if self.holder is not session:
            return
        self.holder = None
        if self._waiting:
            turn, self.holder = self._waiting.popleft()
            turn.set_result(None)

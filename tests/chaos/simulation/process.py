"""A process that can be killed or stopped at every call that it makes to the world outside of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

from service.errors import Unavailable

#: Docker starts no container on a condition: to be stopped between the look at the lease and the start is the
#: one way to a second start, and too rare to be left to itself.
STOPPED_MORE = 300


#: A call takes one of these.
_TAKES_S = (0.0, 0.001, 0.003, 0.02)


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


class Process:
    """All calls of a process to the ledger and the engine pass `gate`, before and after their effect."""

    def __init__(self, name: str, chance: Random, on_crash: Callable[[Process], None]) -> None:
        self.name = name
        self.chance = chance
        self.dead = False
        self.crash_rate = self.stop_rate = 0.0
        #: The epoch that it believes to hold, to tell a stale word by.
        self.epoch: int | None = None
        self._on_crash = on_crash
        #: Told until when it is stopped.
        self.on_stop: Callable[[Process, float], None] = lambda process, until: None
        self._stopped_until = 0.0

    async def gate(self, about: str) -> None:
        """One of the points where it may be killed, be stopped past its lease, or just take its time."""
        loop = asyncio.get_running_loop()
        if self.dead:
            raise Unavailable(f"process {self.name} is dead")
        roll = self.chance.random()
        if delay_s := _TAKES_S[int(roll * 4096) % 4]:
            passed = loop.create_future()
            loop.call_later(delay_s, _wake, passed)
            await passed
        else:
            await asyncio.sleep(0)
        stop_rate = self.stop_rate * (STOPPED_MORE if about == "before start" else 1)
        if roll < self.crash_rate:
            self.kill()
        elif roll < self.crash_rate + stop_rate:
            self._stopped_until = loop.time() + self.chance.uniform(5, 60)
            self.on_stop(self, self._stopped_until)
        if self._stopped_until:
            await self._while_stopped(loop)
        if self._is_dead():
            await loop.create_future()  # a killed process goes on nowhere; its tasks are cancelled

    async def _while_stopped(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._is_dead() and loop.time() < self._stopped_until:
            await asyncio.sleep(self._stopped_until - loop.time())

    def _is_dead(self) -> bool:
        return self.dead

    def kill(self) -> None:
        if not self.dead:
            self.dead = True
            self._on_crash(self)


class Gated:
    """An object whose coroutine methods pass the gate of a process on the way in and out."""

    def __init__(self, behind: Any, process: Process, plain: frozenset[str] = frozenset()) -> None:
        self._behind = behind
        self._process = process
        self._plain = plain

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._behind, name)
        if name in self._plain or not callable(found):
            return found
        if name in ("events", "logs", "follow"):
            return lambda *args, **kwargs: self._stream(name, found(*args, **kwargs))

        async def call(*args: Any, **kwargs: Any) -> Any:
            await self._process.gate(f"before {name}")
            answer = await found(*args, **kwargs)
            await self._process.gate(f"after {name}")
            return answer

        return call

    async def _stream(self, name: str, items: Any) -> Any:
        try:
            async for item in items:
                await self._process.gate(f"item of {name}")
                yield item
        finally:
            await items.aclose()

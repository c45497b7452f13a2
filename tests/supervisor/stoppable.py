"""A process that is stopped, as by SIGSTOP: all it does, through ledger or engine, waits until it goes on."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any


class Stopped:
    """The moment: `stop_before` names the call at which everything stops; `go_on` lets it continue there."""

    def __init__(self) -> None:
        self.stop_before = ""
        self.reached = asyncio.Event()
        self._going = asyncio.Event()
        self._going.set()

    async def passing(self, call: str = "") -> None:
        if call and call == self.stop_before:
            self.stop_before = ""
            self._going.clear()
            self.reached.set()
        await self._going.wait()

    def go_on(self) -> None:
        self._going.set()


class Stoppable:
    """Stands in front of a ledger or an engine, for one supervisor."""

    def __init__(self, of: Any, stopped: Stopped) -> None:
        self._of = of
        self._stopped = stopped

    def __getattr__(self, name: str) -> Any:
        target = getattr(self._of, name)
        if inspect.iscoroutinefunction(target):
            return self._call(name, target)
        if inspect.isasyncgenfunction(target):
            return self._stream(target)
        if name == "follow_on":  # answers an asynchronous generator
            return self._stream(target)
        return target

    def _call(self, name: str, target: Any) -> Any:
        async def call(*arguments: Any, **named: Any) -> Any:
            await self._stopped.passing(name)
            answer = await target(*arguments, **named)
            await self._stopped.passing()
            return answer

        return call

    def _stream(self, target: Any) -> Any:
        async def stream(*arguments: Any, **named: Any) -> Any:
            async for item in target(*arguments, **named):
                await self._stopped.passing()
                yield item

        return stream

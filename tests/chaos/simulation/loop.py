"""An event loop whose time is a number: when nothing is ready it jumps to the next timer."""

from __future__ import annotations

import asyncio
import heapq
import selectors
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from itertools import count
from typing import Any, TypeVar

T = TypeVar("T")


class Stuck(AssertionError):
    """Nothing is ready and no timer is set: everybody waits for somebody else, for ever."""


class _NoFiles(selectors.SelectSelector):
    """Nobody waits for a file here."""

    def select(self, timeout: float | None = None) -> list[Any]:
        raise AssertionError("a file is waited for")


class _Handle(asyncio.Handle):
    """Without what a debugger would want to know."""

    def __init__(self, callback: Any, args: Any, loop: Any, context: Any) -> None:
        self._context = copy_context() if context is None else context
        self._loop, self._callback, self._args = loop, callback, args
        self._cancelled, self._repr, self._source_traceback = False, None, None


class _Timer(_Handle):
    """Cancelled, it stays in the heap until its time comes, and nobody counts it."""

    _when: float

    def when(self) -> float:
        return self._when


class _Task(asyncio.Task[Any]):
    """A task whose hash is its number: a set of tasks, as in a group, is gone through by hash, and that of an
    object is where it happens to lie in memory."""

    _number: int

    def __new__(cls, *_: Any, loop: VirtualLoop, **__: Any) -> _Task:
        made = super().__new__(cls)
        made._number = next(loop.numbers)
        return made

    def __hash__(self) -> int:
        return self._number


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs no threads and waits for no files, so that the same calls always come in the same order."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.numbers = count()
        #: Of those for the same moment, the first that was set is the first that rings.
        self._timers: list[tuple[float, int, _Timer]] = []
        super().__init__(_NoFiles())
        self.set_task_factory(lambda loop, made, **how: _Task(made, loop=loop, **how))

    def time(self) -> float:
        return self.now_s

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        timer = _Timer(callback, args, self, context)
        timer._when = when
        heapq.heappush(self._timers, (when, next(self.numbers), timer))
        return timer  # type: ignore[return-value]

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.Handle:
        handle = _Handle(callback, args, self, context)
        self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    def _run_once(self) -> None:
        """A turn: all that was ready when it began. When nothing is, the clock moves to the next timer first.

        The loop of asyncio does the same by way of a selector, and half of a seed's time went there.
        """
        ready, timers = self._ready, self._timers  # type: ignore[attr-defined]
        if not ready and not self._stopping:  # type: ignore[attr-defined]
            while timers and timers[0][2]._cancelled:
                heapq.heappop(timers)
            if not timers:
                raise Stuck("nothing is ready and no timer is set")
            self.now_s = max(self.now_s, timers[0][0])
        while timers and timers[0][0] <= self.now_s:
            timer = heapq.heappop(timers)[2]
            if not timer._cancelled:
                ready.append(timer)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """At once and here: what a thread does to the disk is over before anything else happens."""
        made: asyncio.Future[T] = self.create_future()
        try:
            made.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 (the caller gets it, as from a thread)
            made.set_exception(error)
        return made


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run it on a clock that begins at nought; what it left behind is cancelled."""
    loop = VirtualLoop()
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(main)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        asyncio.set_event_loop(None)
        loop.close()

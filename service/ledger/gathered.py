"""Looking rows up by key, many callers to a query: whoever comes while one runs shares the next.

As the writer does with commits, and for the same reason: a query costs a connection, a round trip and several
turns of the loop, however little it asks for. What a caller is told was read after it asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar

from service.errors import Unavailable

V = TypeVar("V")

#: Queries under way at a time: while one is read, Postgres works on another.
AT_A_TIME = 2
#: Keys that one query asks for at most.
MOST_KEYS = 256


class Gathered(Generic[V]):
    """`fetch` answers what there is of some keys; the others have no row."""

    def __init__(
        self, fetch: Callable[[Sequence[str]], Awaitable[Mapping[str, V]]], *, at_a_time: int = AT_A_TIME
    ) -> None:
        self._fetch = fetch
        self._at_a_time = at_a_time
        self._waiting: dict[str, list[asyncio.Future[V | None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._running = 0

    async def of(self, key: str) -> V | None:
        """What there is of a key, None for nothing. Raises what the query raised."""
        answer: asyncio.Future[V | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(answer)
        if self._running < self._at_a_time:
            self._running += 1
            task = asyncio.create_task(self._run())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await answer

    async def _run(self) -> None:
        """Query until nobody waits. It counts as running no longer than it sees to that: whoever was answered
        last may ask again before the task itself is seen to have ended."""
        try:
            while self._waiting:
                taken = [(key, self._waiting.pop(key)) for key in list(self._waiting)[:MOST_KEYS]]
                await self._answer(taken)
        finally:
            self._running -= 1

    async def _answer(self, taken: list[tuple[str, list[asyncio.Future[V | None]]]]) -> None:
        try:
            found = await self._fetch([key for key, _ in taken])
        except asyncio.CancelledError:
            self._fail(taken, Unavailable("the service is closing"))
            raise
        except Exception as error:  # noqa: BLE001 (whatever it is, those who asked must hear of it)
            self._fail(taken, error)
            return
        for key, answers in taken:
            for answer in answers:
                if not answer.done():
                    answer.set_result(found.get(key))

    @staticmethod
    def _fail(taken: list[tuple[str, list[asyncio.Future[V | None]]]], error: Exception) -> None:
        for _, answers in taken:
            for answer in answers:
                if not answer.done():
                    answer.set_exception(error)

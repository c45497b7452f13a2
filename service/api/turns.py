"""Work that takes a processor or a connection for itself: a few at a time, and each project has its turn."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from service.api.client import gone
from service.errors import NotNow

#: As much of such work as one project may have waiting and under way, unless it is said otherwise.
MOST_OF_PROJECT = 4


class Turns:
    """So many have their turn at a time, in the order in which they came."""

    def __init__(self, at_once: int, most_of_project: int = MOST_OF_PROJECT) -> None:
        self._most = most_of_project
        self._free = asyncio.Semaphore(at_once)
        self.asked: Counter[str] = Counter()

    @asynccontextmanager
    async def taken(self, request: web.Request, project: str) -> AsyncIterator[None]:
        """Wait for a turn and have it.

        Raises `NotNow` when the project has enough of them, or nobody is there any more to be answered.
        """
        if self.asked[project] >= self._most:
            allowed = f"{self._most} such requests of your project are under way"
            raise NotNow(f"{allowed}; try again when one is done")
        self.asked[project] += 1
        try:
            async with self._free:
                if gone(request):
                    raise NotNow("the client left before its turn came")
                yield
        finally:
            self.asked[project] -= 1
            if not self.asked[project]:
                del self.asked[project]

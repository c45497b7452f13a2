"""Work that takes a processor or a connection for itself: a few at a time, and each project has its turn."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from aiohttp import web

from service.api.client import gone
from service.errors import NotNow
from service.rounds import Rounds

#: As much of such work as one project may have waiting and under way, unless it is said otherwise.
MOST_OF_PROJECT = 4


class Turns:
    """So many have their turn at a time: a project's in the order in which they came, projects in turn."""

    def __init__(self, at_once: int, most_of_project: int = MOST_OF_PROJECT) -> None:
        self._most = most_of_project
        self._free = Rounds(at_once)
        self.asked: Counter[str] = Counter()

    @asynccontextmanager
    async def taken(self, request: web.Request, project: str) -> AsyncIterator[None]:
        """Wait for a turn and have it. Raises as `asked_for` and `turn` do."""
        with self.asked_for(project):
            async with self.turn(request, project):
                yield

    @contextmanager
    def asked_for(self, project: str) -> Iterator[None]:
        """One more of the project's, from what it needs before its turn to the end of that.

        Raises `NotNow` when the project has enough of them.
        """
        if self.asked[project] >= self._most:
            allowed = f"{self._most} such requests of your project are under way"
            raise NotNow(f"{allowed}; try again when one is done")
        self.asked[project] += 1
        try:
            yield
        finally:
            self.asked[project] -= 1
            if not self.asked[project]:
                del self.asked[project]

    @asynccontextmanager
    async def turn(self, request: web.Request, project: str) -> AsyncIterator[None]:
        """A turn of what is `asked_for`. Raises `NotNow` when nobody is there any more to be answered."""
        async with self._free.turn(project):
            if gone(request):
                raise NotNow("the client left before its turn came")
            yield

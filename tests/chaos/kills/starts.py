"""What the engine itself says of starts: its own events, followed by us and by nothing of the product.

An engine that is killed forgets them, and what it had not said yet. A start that nobody heard of is one of a
time in which it was away.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp

from service.local import engine_api
from service.supervisor.names import JOB, RUN

_AGAIN_S = 0.05
_FILTERS = json.dumps({"type": ["container"], "event": ["start"], "label": [JOB]})

RunKey = tuple[str, int]


class Starts:
    """`of` has by (job, run) the moments, in nanoseconds, at which a container of it began."""

    def __init__(self) -> None:
        self.of: dict[RunKey, set[int]] = defaultdict(set)
        self._last_s = 0

    @asynccontextmanager
    async def watching(self, host: str) -> AsyncIterator[Starts]:
        task = asyncio.create_task(self._follow(host), name="starts")
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _follow(self, host: str) -> None:
        while True:
            with suppress(aiohttp.ClientError, OSError, TimeoutError):
                await self._listen(host)
            await asyncio.sleep(_AGAIN_S)

    async def _listen(self, host: str) -> None:
        """From the second of the last one that was heard: what comes once more has the same moment."""
        params = {"filters": _FILTERS, "since": str(self._last_s)}
        async with engine_api.session(host) as http:
            forever = aiohttp.ClientTimeout(total=None)
            async with http.get("/events", params=params, timeout=forever) as response:
                async for line in response.content:
                    self.heard(json.loads(line))

    def heard(self, told: dict[str, object]) -> None:
        """One event, as the engine says it."""
        actor, moment = told["Actor"], told["timeNano"]
        assert isinstance(actor, dict) and isinstance(moment, int)
        labels = actor["Attributes"]
        self.of[labels[JOB], int(labels[RUN])].add(moment)
        self._last_s = max(self._last_s, moment // 10**9)

"""The engine's events as bare hints: the ids of containers something happened to.

The engine drops events of a slow reader and slows down itself while it waits for one. So a task of its
own reads as fast as they come and only remembers which ids are due; a hundred events of one container
are one hint, and the memory is bounded by the number of containers.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import suppress

import aiohttp

from service.errors import JobyardError, Unavailable
from service.supervisor.engine.protocol import LABEL_SPEC
from service.supervisor.engine.wire import Wire, refusal, refused

SUBSCRIBED = ""
"""The first item: the subscription stands, list now."""


class DueIds:
    """Ids waiting to be looked at, each once, in order of first mention."""

    def __init__(self) -> None:
        self._due: dict[str, int] = {}
        self._wake = asyncio.Event()
        self._ended: Exception | None = None

    def add(self, container_id: str, *, again: bool = False) -> None:
        """`again` makes it come out once more, as a repeated event would."""
        self._due[container_id] = self._due.get(container_id, 0) + 1 if again else 1
        self._wake.set()

    def end(self, reason: Exception) -> None:
        self._ended = reason
        self._wake.set()

    async def next(self) -> str:
        """The next id; raises the reason of the end once all ids were handed out."""
        while not self._due:
            if self._ended is not None:
                raise self._ended
            self._wake.clear()
            await self._wake.wait()
        container_id, times = next(iter(self._due.items()))
        del self._due[container_id]
        if times > 1:
            self._due[container_id] = times - 1
        return container_id


async def read_events(wire: Wire) -> AsyncGenerator[str, None]:
    """See `Engine.events`. Only containers made from a spec of ours are told of."""
    due = DueIds()
    reader = asyncio.create_task(_read(wire, due), name="docker-events")
    try:
        while True:
            yield await due.next()
    finally:
        reader.cancel()
        with suppress(asyncio.CancelledError):
            await reader


async def _read(wire: Wire, due: DueIds) -> None:
    filters = json.dumps({"type": ["container"], "label": [LABEL_SPEC]})
    try:
        async with wire.stream("GET", "/events", params={"filters": filters}) as reply:
            if reply.status != 200:
                raise refused("events", await refusal(reply))
            due.add(SUBSCRIBED)
            await _enqueue(reply, due)
    except (JobyardError, ValueError, KeyError) as error:
        due.end(Unavailable(f"the event stream broke: {error}"))
    else:
        due.end(Unavailable("the event stream ended"))


async def _enqueue(reply: aiohttp.ClientResponse, due: DueIds) -> None:
    buffer = b""
    async for data in reply.content.iter_any():
        *lines, buffer = (buffer + data).split(b"\n")
        for line in lines:
            if line.strip():
                due.add(str(json.loads(line)["Actor"]["ID"]))

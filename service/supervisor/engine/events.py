"""The engine's events as bare hints: the containers something happened to.

The engine drops events of a slow reader and slows down itself while it waits for one. So a task of its
own reads as fast as they come and only remembers which containers are due; a hundred events of one container
are one hint, and the memory is bounded by the number of containers.

The engine says nothing while nothing happens, just as one behind a link that was cut without an end. So a
stream that was silent for a moment is taken up anew: whether the engine is there is found out, and as much
is looked for as after any new subscription.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from typing import Any

import aiohttp

from service.errors import JobyardError, Unavailable
from service.supervisor.engine import wire as wiring
from service.supervisor.engine.protocol import LABEL_SPEC, SUBSCRIBED, Hint
from service.supervisor.engine.wire import Wire, refusal, refused

Hear = Callable[[Mapping[str, Any]], object]

SILENCE_S = 3.0
"""A stream that says nothing for so long is taken up anew."""


class DueHints:
    """Containers waiting to be looked at, each once, in order of first mention."""

    def __init__(self) -> None:
        self._due: dict[str, tuple[Hint, int]] = {}
        self._wake = asyncio.Event()
        self._ended: Exception | None = None

    def add(self, hint: Hint, *, again: bool = False) -> None:
        """`again` makes it come out once more, as a repeated event would."""
        _, times = self._due.get(hint.container_id, (hint, 0))
        self._due[hint.container_id] = (hint, times + 1 if again else 1)
        self._wake.set()

    def end(self, reason: Exception) -> None:
        self._ended = reason
        self._wake.set()

    async def next(self) -> Hint:
        """The next one; raises the reason of the end once all were handed out."""
        while not self._due:
            if self._ended is not None:
                raise self._ended
            self._wake.clear()
            await self._wake.wait()
        container_id, (hint, times) = next(iter(self._due.items()))
        del self._due[container_id]
        if times > 1:
            self._due[container_id] = (hint, times - 1)
        return hint


async def read_events(wire: Wire, hear: Hear) -> AsyncGenerator[Hint, None]:
    """See `Engine.events`. Only containers made from a spec of ours are told of; `hear` gets each event."""
    due = DueHints()
    reader = asyncio.create_task(_read(wire, due, hear), name="docker-events")
    try:
        while True:
            yield await due.next()
    finally:
        reader.cancel()
        with suppress(asyncio.CancelledError):
            await reader


async def _read(wire: Wire, due: DueHints, hear: Hear) -> None:
    try:
        while await _subscribed(wire, due, hear):
            pass
    except (JobyardError, ValueError, KeyError, TypeError) as error:
        due.end(Unavailable(f"the event stream broke: {error}"))
    else:
        due.end(Unavailable("the event stream ended"))


async def _subscribed(wire: Wire, due: DueHints, hear: Hear) -> bool:
    """One subscription, until the engine ends it (False) or it is silent (True)."""
    filters = json.dumps({"type": ["container"], "label": [LABEL_SPEC]})
    answer_s = wiring.ANSWER_TIMEOUT_S
    async with wire.stream("GET", "/events", params={"filters": filters}, answer_s=answer_s) as reply:
        if reply.status != 200:
            raise refused("events", await refusal(reply))
        due.add(SUBSCRIBED)
        return await _enqueue(reply, due, hear)


async def _enqueue(reply: aiohttp.ClientResponse, due: DueHints, hear: Hear) -> bool:
    """True when nothing has come for a moment."""
    buffer = b""
    while True:
        try:
            async with asyncio.timeout(SILENCE_S):
                data = await reply.content.readany()
        except TimeoutError:
            return True
        if not data:
            return False
        *lines, buffer = (buffer + data).split(b"\n")
        for line in lines:
            if line.strip():
                event = json.loads(line)
                hear(event)
                due.add(_hint(event["Actor"]))


def _hint(actor: Mapping[str, Any]) -> Hint:
    """Its attributes are the container's labels, and a few facts of the event beside them."""
    return Hint(str(actor["ID"]), actor["Attributes"])

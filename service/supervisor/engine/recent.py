"""What the engine remembers of late: its last 256 events, none from before its own start."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from service.errors import Unavailable
from service.supervisor.engine import inspect
from service.supervisor.engine.wire import Wire, refusal, refused

KEPT = 256
"""So many events dockerd keeps, of all kinds together."""
FULL = KEPT - 16
"""With so many it may have forgotten some: those of the moment in which it is asked can be missing."""

_BEGINNING = datetime.fromtimestamp(0, UTC)
FRESH_S = 30.0
"""So long the engine's clock is counted on."""
PROMPT_S = 0.1
"""An answer that took longer is not counted on, as all who ask next would wait for so much longer."""


class EngineClock:
    """What time it is for the engine. To ask costs it some 15 ms of a processor (it runs its helpers for
    their versions), so it is asked now and then, and counted on from there."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._said = _BEGINNING
        self._asked_at: float | None = None

    async def now(self, timeout_s: float) -> datetime:
        """Never behind the engine's own, and ahead by no more than the engine took to answer, unless somebody
        has set it since. Raises as `recent`."""
        at = asyncio.get_running_loop().time
        asked_at = at()
        if self._asked_at is None or asked_at - self._asked_at > FRESH_S:
            answer = await self._wire.call("GET", "/info", timeout_s=timeout_s)
            if answer.status != 200:
                raise refused("info", answer)
            said = inspect.moment(str(answer.body["SystemTime"])) or _BEGINNING
            if at() - asked_at > PROMPT_S:
                return said + timedelta(seconds=at() - asked_at)
            self._said, self._asked_at = said, asked_at
        return self._said + timedelta(seconds=at() - self._asked_at)

    def doubt(self) -> None:
        """It may have been set: ask anew."""
        self._asked_at = None


async def recent(
    wire: Wire,
    filters: Mapping[str, Sequence[str]] | None,
    *,
    since: datetime = _BEGINNING,
    until: datetime,
    timeout_s: float,
) -> list[dict[str, Any]]:
    """The events of containers by these filters, oldest first; None: those of whatever there is.

    Both times are of the engine's own clock: it closes the stream once `until` is past. Raises `Unavailable`,
    `EngineError`.
    """
    params = {"since": f"{since.timestamp():.6f}", "until": f"{until.timestamp():.6f}"}
    if filters is not None:
        params["filters"] = json.dumps({"type": ["container"], **filters})
    try:
        async with asyncio.timeout(timeout_s), wire.stream("GET", "/events", params=params) as reply:
            if reply.status != 200:
                raise refused("events", await refusal(reply))
            lines = (await reply.read()).splitlines()
    except TimeoutError:
        raise Unavailable(f"the Docker Engine did not answer GET /events in {timeout_s:g} s") from None
    return [json.loads(line) for line in lines if line.strip()]


async def until_now(
    wire: Wire,
    clock: EngineClock,
    filters: Mapping[str, Sequence[str]] | None,
    *,
    since: datetime = _BEGINNING,
    timeout_s: float,
) -> list[dict[str, Any]]:
    """As `recent`, of all that there has been. Nothing, where its clock was set back before `since`."""
    until = await clock.now(timeout_s)
    if since > until:
        return []
    try:
        return await recent(wire, filters, since=since, until=until, timeout_s=timeout_s)
    except Unavailable:
        clock.doubt()  # the stream stays open until a time that may have been put off
        raise


async def was_started(wire: Wire, clock: EngineClock, labels: Mapping[str, str], timeout_s: float) -> bool:
    """Whether a container with these labels was started, as far as the engine remembers; it may be gone."""
    filters = {"event": ["start"], "label": [f"{name}={value}" for name, value in labels.items()]}
    return bool(await until_now(wire, clock, filters, timeout_s=timeout_s))


async def was_removed(wire: Wire, clock: EngineClock, container_id: str, timeout_s: float) -> bool:
    """Whether it remembers the removal of a container."""
    filters = {"event": ["destroy"], "container": [container_id]}
    return bool(await until_now(wire, clock, filters, timeout_s=timeout_s))


async def began_anew(wire: Wire, clock: EngineClock, labels: Mapping[str, str], timeout_s: float) -> bool:
    """See `Engine.began_anew`. All events are asked for, as only they say how far back it remembers."""
    events = await until_now(wire, clock, None, timeout_s=timeout_s)
    return len(events) < FULL and not any(_is_start(event, labels) for event in events)


def _is_start(event: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    if (event.get("Type"), event.get("Action")) != ("container", "start"):
        return False
    has: Mapping[str, str] = event["Actor"]["Attributes"]
    return labels.items() <= has.items()

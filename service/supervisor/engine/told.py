"""Whether a container was told to stop, by the engine's own events.

A process that is told to end may end well, with code 0: its exit code then says that its work is done. Who
told it is not in the engine's record of the container, only in its events: `kill` with the signal before the
end, and `stop` after it. dockerd tells containers so too as it is stopped, and as it begins and finds them
running without live-restore. What one told before it ended itself, the next one does not know; whoever read
the stream then has heard it. What speaks to a process otherwise (SIGHUP, SIGUSR1, …) does not end it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from signal import Signals
from typing import Any

from service.supervisor.engine.protocol import Container
from service.supervisor.engine.recent import EngineClock, until_now
from service.supervisor.engine.wire import Wire

_ENDING = frozenset({Signals.SIGINT, Signals.SIGQUIT, Signals.SIGKILL, Signals.SIGTERM})
#: An image may name another signal to be stopped by: some name real-time ones.
_REAL_TIME = 32
_KEPT = 10_000


class ToldToStop:
    """Ids of the containers of which the stream of events said so, the last ten thousand."""

    def __init__(self) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()

    def hear(self, event: Mapping[str, Any]) -> None:
        """One event of the stream. A container that starts anew was not told yet."""
        container_id = str(event["Actor"]["ID"])
        if is_told(event):
            self._ids[container_id] = None
            while len(self._ids) > _KEPT:
                self._ids.popitem(last=False)
        elif event.get("Action") == "start":
            self._ids.pop(container_id, None)

    def __contains__(self, container_id: str) -> bool:
        return container_id in self._ids


def is_told(event: Mapping[str, Any]) -> bool:
    if event.get("Action") == "stop":
        return True
    signal = str(event["Actor"].get("Attributes", {}).get("signal", ""))
    known = signal.isdecimal() and (int(signal) in _ENDING or int(signal) >= _REAL_TIME)
    return event.get("Action") == "kill" and known


async def told_to_stop(wire: Wire, clock: EngineClock, ended: Container, timeout_s: float) -> bool:
    """By what the engine still remembers, 256 events, since the container was started.

    Not only of the time until its end: the engine dates `kill` when it has sent the signal, and a process can
    be over by then (3 of 60 on busy cores). Raises `Unavailable`, `EngineError`.
    """
    if ended.started_at is None or ended.finished_at is None:
        return False
    # The engine can date the end of a process a millisecond before its start, and refuses such a range.
    since = min(ended.started_at, ended.finished_at)
    filters = {"event": ["kill", "stop"], "container": [ended.id]}
    told = await until_now(wire, clock, filters, since=since, timeout_s=timeout_s)
    return any(map(is_told, told))

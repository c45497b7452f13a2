"""How containers ended, as the engine's stream of events said it.

dockerd says it (`die`) before it writes it down. Killed in between, it finds a container at its next start of
which containerd knows nothing any more, and gives it code 0 and that moment as its end; or code 255. So what
was heard goes before what it believes then. (Docker 20.10 and containerd 1.6: a job that ended with 3 was
DONE. Where both codes are the same, the moment is wrong: the process would have run on, paid for and perhaps
out of its time, until its engine was back.)

But the code of its `die` is what containerd answers then, and 255 where it has nothing to say any more; the
record has what containerd had reported. That differs where a container's shim was killed: containerd ends the
process, and reports SIGKILL for it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import structlog

from service.supervisor.engine.protocol import Container

_KEPT = 10_000
#: The engine can date the end of a process before its start, by a millisecond or so.
_CLEARLY = timedelta(seconds=1)
#: What a `die` says where containerd has no code to give.
_NONE_GIVEN = 255
_SIGKILLED = 137
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_log = structlog.get_logger()


class End(NamedTuple):
    """A process's exit code, and when the engine heard of it. `said`: that it was forgotten is in our log."""

    code: int
    at: datetime
    said: bool = False


class Ends:
    """By the ids of containers, the last ten thousand."""

    def __init__(self) -> None:
        self._ends: OrderedDict[str, End] = OrderedDict()

    def hear(self, event: Mapping[str, Any]) -> None:
        """One event of the stream. A container that starts anew has not ended yet."""
        container_id = str(event["Actor"]["ID"])
        if event.get("Action") == "start":
            self._ends.pop(container_id, None)
        elif event.get("Action") == "die" and container_id not in self._ends:
            code = str(event["Actor"].get("Attributes", {}).get("exitCode", ""))
            if not code.isdecimal():
                return
            at = _EPOCH + timedelta(microseconds=int(event["timeNano"]) // 1000)
            self._ends[container_id] = End(int(code), at)
            while len(self._ends) > _KEPT:
                self._ends.popitem(last=False)

    def corrected(self, found: Container) -> Container:
        """What the engine says of a container now, with the end that it had said before."""
        heard = self._ends.get(found.id)
        if heard is None or found.exit_code is None or found.finished_at is None:
            return found
        if heard.code == found.exit_code and found.finished_at <= heard.at + _CLEARLY:
            return found
        if found.started_at is not None and heard.at < found.started_at - _CLEARLY:
            return found  # somebody on the node has started it once more, and nobody heard of that
        if heard.code == _NONE_GIVEN and found.finished_at <= heard.at:
            # Written down as it was said, and not by a dockerd that came later.
            return replace(found, lost=found.exit_code == _SIGKILLED and not found.oom_killed)
        if not heard.said:
            was, says = heard.code, found.exit_code
            _log.warning("engine forgot an end", container=found.id[:12], was=was, says=says)
            self._ends[found.id] = heard._replace(said=True)
        return replace(found, exit_code=heard.code, finished_at=heard.at)

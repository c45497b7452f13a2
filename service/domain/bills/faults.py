"""The rule `platform-fault`: which runs are credited in full, because it was us that ended them.

In one place, and read from the run's own events, so that a ledger of any age comes out the same:

1. A run that ended in ERROR. Nobody can tell how its process ended, or we could not go on.
2. A run whose node was lost: its process was killed (137) while nobody looked after the node, which is from
   `absent_since` of a later `RunAdopted` until that event. By then nobody had ordered it to stop, its time
   was not up, and it had not run out of its memory. What a process does to itself just then cannot be told
   apart from the node's end; so the doubt is the user's gain.
3. The same where the engine alone was lost, with a supervisor there: it did not answer after it had last been
   seen running the process (`engine_away_since`), and the process was killed since.
4. The same where the engine missed how the process ended, died as it started it, or lost hold of it
   (`unknown`).
5. The same where its container was told to stop, and by nobody's order to us (`stopped_outside`): by whoever
   has the node, or by an engine without live-restore that is restarted. Users cannot do that.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from service.domain import events as ev
from service.domain.events import Event
from service.domain.pricing import Interval
from service.domain.states import State

#: The exit code of a process that SIGKILL ended: 128 + 9.
SIGKILLED = 137

RULE = "platform-fault"


class Fault(msgspec.Struct, frozen=True, rename="camel"):
    """That a run's end was our fault, in words; the event that says so, and when it happened."""

    reason: str
    position: int
    at: datetime


def fault_of(event: Event, absences: Iterable[Interval]) -> Fault | None:
    """What an event of a run says of our fault; `absences` are those that were recorded before it."""
    body = event.body
    if isinstance(body, ev.RunErrored):
        return Fault("the run ended in ERROR", event.position, event.occurred_at)
    if not isinstance(body, ev.RunExited) or not _unasked(body):
        return None
    at = body.ended_at or event.occurred_at
    reason = _of_exit(body, at, absences)
    return None if reason is None else Fault(reason, event.position, at)


def _unasked(exited: ev.RunExited) -> bool:
    """By nobody's order: an order, or the timeout, would have moved the run out of RUNNING before, unless it
    came when the process had ended already."""
    return exited.source is State.RUNNING or exited.ended_at is not None


def _of_exit(exited: ev.RunExited, at: datetime, absences: Iterable[Interval]) -> str | None:
    killed = exited.exit_code == SIGKILLED and not exited.oom_killed
    if killed and _in(at, absences):
        return "its node was lost: it was killed while nobody looked after the node"
    if killed and exited.engine_away_since is not None and exited.engine_away_since <= at:
        return "its node was lost: it was killed while the engine did not answer"
    if exited.unknown:  # every word here is kept in rows, and another would make a rebuild differ from them
        return "its engine was lost as the process ended, and nobody knows how it did"
    if exited.stopped_outside and not exited.oom_killed:
        return "its container was told to stop by no order to this service"
    return None


def _in(at: datetime, absences: Iterable[Interval]) -> bool:
    return any(gap.start <= at <= gap.end for gap in absences)

"""A job at two moments of the past, and what came between."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import field

from service.api.wire.base import Wire


class Moment(Wire, frozen=True):
    """The state right after the event at `position`; `at` is the time that "now" was."""

    position: int
    at: datetime


class Change(Wire, frozen=True):
    """One field of a job, by its dotted path as `GET /v1/job/{id}` has it, and what it held. Null is also
    what a field holds that is not there."""

    field: str
    before: Any
    after: Any


class Happening(Wire, frozen=True):
    """One event, without what is in it: what was done, by whom, in which run."""

    position: int
    type: str
    run: int | None
    recorded_at: datetime
    occurred_at: datetime
    actor: str
    request_id: str | None


class JobDiff(Wire, frozen=True):
    """What changed of a job after the one moment and up to the other, and the events that changed it, the
    first ones first. `eventsLeftOut` is how many more there are."""

    id: str
    since: Moment = field(name="from")
    until: Moment = field(name="to")
    changes: list[Change]
    events: list[Happening]
    events_left_out: int = 0

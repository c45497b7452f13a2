"""What a webhook has open: the events of a round, by line, and which lines stay behind after it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from msgspec.structs import replace

from service.domain.events import Event
from service.domain.filters import EventFilter
from service.ledger.chain import event_of
from service.ledger.database import translated
from service.ledger.ledger import Ledger
from service.webhooks.progress import Progress, line_of
from sql import queries

_SQL = queries("webhooks")
#: Events of one read of a line.
_PAGE = 100


@dataclass
class Found:
    """What a round is about. `queues`: by line, what is to be sent, in order. `batch`: the new events, up to
    `end`. `behind`: the lines that were; `partly`: those that have more open than is in their queue. `more`:
    the ledger has more after `end`."""

    end: int
    behind: frozenset[str]
    queues: dict[str, list[Event]] = field(default_factory=dict)
    batch: list[Event] = field(default_factory=list)
    partly: set[str] = field(default_factory=set)
    more: bool = False


class Open(NamedTuple):
    """The lines that have something open up to `end`, which is how far the cursor may go."""

    names: set[str]
    end: int


class LinesPart(NamedTuple):
    """Some wanted events of a line, in order; `whole`: there are no more up to where it was asked for."""

    wanted: list[Event]
    whole: bool


async def of_line(
    ledger: Ledger, asked: EventFilter, name: str, after: int, upto: int, most: int
) -> LinesPart:
    """At most `most` events of a line that are wanted, with after < position <= upto; one if there is any."""
    while True:
        wanted, looked_to = await _looked(ledger, asked, name, after, upto)
        if wanted or looked_to >= upto:
            return LinesPart(wanted[:most], looked_to >= upto and len(wanted) <= most)
        after = looked_to


async def _looked(
    ledger: Ledger, asked: EventFilter, name: str, after: int, upto: int
) -> tuple[list[Event], int]:
    """What is wanted among the next events of a line, and up to where was looked."""
    if name:
        job = UUID(name)
        if asked.jobs and job not in asked.jobs:
            return [], upto
        looked = await ledger.look(replace(asked, jobs=frozenset({job})), after, limit=_PAGE)
        return [event for event, _ in looked.events if event.position <= upto], min(looked.position, upto)
    if asked.needs_labels or asked.jobs or asked.states:
        return [], upto  # what has no job has none of these
    with translated():
        records = await ledger.pool.fetch(_SQL.of_no_job, asked.project, after, upto, _PAGE)
    events = [event_of(record) for record in records]
    looked_to = events[-1].position if len(events) == _PAGE else upto
    return [event for event in events if asked.wants(event, {})], looked_to


def open_lines(progress: Progress, found: Found, most: int) -> Open:
    """After a round: who is behind, and how far the cursor may go so that no more than `most` lines are."""
    names = {name for name in found.behind if _stays(progress, found, name)}
    for event in found.batch:
        name = line_of(event)
        if name in names or event.position <= progress.delivered_to(name):
            continue
        if len(names) >= most:
            return Open(names, event.position - 1)
        names.add(name)
    return Open(names, found.end)


def _stays(progress: Progress, found: Found, name: str) -> bool:
    """Whether a line that was behind has something open still, up to where the cursor was."""
    if name not in found.queues or name in found.partly:
        return True
    delivered_to = progress.delivered_to(name)
    return any(delivered_to < event.position <= progress.position for event in found.queues[name])

"""The labels that jobs had right after an event: what filters and tokens' scopes are decided on.

They are read from the events themselves, by an index of their own (migration 0006), so they are those of that
moment, whatever has changed since.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from service.domain.events import Event, JobSubmitted, LabelSet
from service.ledger.database import translated
from sql import queries

_SQL = queries("labels")
_submitted = msgspec.json.Decoder(dict[str, str]).decode
_NONE: Mapping[str, str] = {}
#: A job's labels take some hundred bytes.
MOST_RECALLED = 10_000


class Labelled(NamedTuple):
    """An event with the labels that its job had right after it; none for one of no job."""

    event: Event
    labels: Mapping[str, str]


Look = Callable[[Sequence[Event]], Awaitable[Sequence[Mapping[str, str]]]]


class _Change(NamedTuple):
    position: int
    name: str
    value: str | None


async def labels_at(source: Any, events: Sequence[Event]) -> list[Mapping[str, str]]:
    """For each of the events, which stand in the order of positions, the labels of its job right after it.

    One query, whatever the number of events and jobs. `source` is a pool or a connection.
    """
    jobs = list({event.job for event in events if event.job is not None})
    if not jobs:
        return [_NONE] * len(events)
    with translated():
        records = await source.fetch(_SQL.of_jobs, jobs, events[0].position - 1, events[-1].position)
    labels, changes = _sorted_out(records)
    found = []
    for event in events:
        if event.job is None:
            found.append(_NONE)
            continue
        coming = changes.get(event.job)
        while coming and coming[0].position <= event.position:
            labels[event.job] = _changed(labels.get(event.job, _NONE), coming.popleft())
        found.append(labels.get(event.job, _NONE))
    return found


class Recalled:
    """`labels_at` for whoever reads all events in order: of a job that was met before, nothing is asked.

    All changes are events and none is left out: what a job had after its last event, it has until the next.
    """

    def __init__(self, look: Look, most: int = MOST_RECALLED) -> None:
        """`look` answers as `labels_at`; of so many jobs the labels are kept, those that moved last."""
        self._look = look
        self._most = most
        self._position = 0
        self._known: OrderedDict[UUID, Mapping[str, str]] = OrderedDict()

    async def at(self, after: int, events: Sequence[Event]) -> list[Mapping[str, str]]:
        """For each of the events the labels right after it. They are all that follow the position `after`, up
        to the last of them; what was kept is forgotten where some were passed over. Raises as `look`."""
        if after != self._position:
            self._known.clear()
        self._position = after
        here = {event.job for event in events if isinstance(event.body, JobSubmitted)}
        unmet = [event for event in events if event.job not in self._known and event.job not in here]
        asked = [event for event in unmet if event.job is not None]
        looked = {event.position: each for event, each in zip(asked, await self._look(asked), strict=True)}
        found = []
        for event in events:
            if event.job is None:
                found.append(_NONE)
                continue
            labels = looked.get(event.position)
            if labels is None:
                labels = _after(event, self._known.get(event.job, _NONE))
            self._known[event.job] = labels
            self._known.move_to_end(event.job)
            found.append(labels)
        while len(self._known) > self._most:
            self._known.popitem(last=False)
        self._position = events[-1].position if events else after
        return found


def _after(event: Event, labels: Mapping[str, str]) -> Mapping[str, str]:
    match event.body:
        case JobSubmitted(spec=spec):
            return spec.labels
        case LabelSet(name=name, value=value):
            return _changed(labels, _Change(event.position, name, value))
        case _:
            return labels


def _sorted_out(records: Sequence[Any]) -> tuple[dict[UUID, Mapping[str, str]], dict[UUID, deque[_Change]]]:
    """The labels that each job was submitted with, and the changes since, in order."""
    labels: dict[UUID, Mapping[str, str]] = {}
    changes: dict[UUID, deque[_Change]] = {}
    for record in records:
        job = UUID(int=record["job"].int)
        if record["name"] is None:
            labels[job] = _submitted(record["labels"] or "{}")
        else:
            change = _Change(record["position"], record["name"], record["value"])
            changes.setdefault(job, deque()).append(change)
    return labels, changes


def _changed(labels: Mapping[str, str], change: _Change) -> Mapping[str, str]:
    """A new mapping: those handed out stay as they are."""
    if change.value is None:
        return {name: value for name, value in labels.items() if name != change.name}
    return {**labels, change.name: change.value}

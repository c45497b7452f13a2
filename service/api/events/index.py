"""Which streams an event may concern, without asking each of them: most want one job, or one type."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator
from itertools import chain
from typing import Generic, Protocol, TypeVar

from service.domain.events import Event, Move
from service.domain.filters import EventFilter


class Asking(Protocol):
    @property
    def asked(self) -> EventFilter: ...


S = TypeVar("S", bound=Asking)


class Index(Generic[S]):
    """Streams by what is narrowest in their filters. `candidates` may name too many, and never too few."""

    def __init__(self) -> None:
        self._all: dict[S, list[Hashable]] = {}
        self._by: defaultdict[Hashable, dict[S, None]] = defaultdict(dict)

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[S]:
        return iter(self._all)

    def add(self, stream: S) -> None:
        self._all[stream] = keys = _keys(stream.asked)
        for key in keys:
            self._by[key][stream] = None

    def discard(self, stream: S) -> None:
        for key in self._all.pop(stream, ()):
            self._by[key].pop(stream, None)
            if not self._by[key]:
                del self._by[key]

    def candidates(self, event: Event) -> Iterator[S]:
        """Each of them once: every stream stands under one kind of key, and an event has one of each kind."""
        keys: list[Hashable] = [("project", event.project), ("type", event.project, event.type)]
        if event.job is not None:
            keys.append(("job", event.project, event.job))
        if isinstance(event.body, Move):
            keys.append(("state", event.project, event.body.target))
        return chain.from_iterable(self._by[key] for key in keys if key in self._by)


def _keys(asked: EventFilter) -> list[Hashable]:
    if asked.jobs:
        return [("job", asked.project, job) for job in asked.jobs]
    if asked.states:
        return [("state", asked.project, state) for state in asked.states]
    if asked.types:
        return [("type", asked.project, name) for name in asked.types]
    return [("project", asked.project)]

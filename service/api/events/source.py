"""The ledger as the feed reads it."""

from __future__ import annotations

from service.api.events.feed import Page
from service.domain.filters import EventFilter
from service.ledger import read
from service.ledger.labels import Labelled, Recalled
from service.ledger.ledger import Ledger
from service.ledger.read import Mark

#: As many events as are read at once: of all projects for those that are live, of one filter for the others.
PAGE = 500
LOOK = 256
POLL_S = 1.0


class LedgerSource:
    """`feed.Source`."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._labels = Recalled(ledger.labels_at)

    @property
    def hints(self) -> int:
        return self._ledger.listener.hints

    async def moved(self, since: int) -> None:
        await self._ledger.listener.moved(since, POLL_S)

    async def page(self, after: Mark) -> Page | None:
        found = await self._ledger.portion(after, limit=PAGE)
        if found is None:
            self._labels = Recalled(self._ledger.labels_at)
            return None
        labels = await self._labels.at(after.position, found.events)
        return Page([Labelled(*each) for each in zip(found.events, labels, strict=True)], found.end)

    async def look(self, asked: EventFilter, after: int) -> read.Looked:
        return await self._ledger.look(asked, after, limit=LOOK)

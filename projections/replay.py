"""The ledger's events once more through the fold of the bills: each run as it is when it is over.

Pure, and with bounded memory: only runs that are not over are kept. What is ordered of a run after its end
(credits, corrections) is no part of a replay; it stands in the live row.
"""

from __future__ import annotations

from collections.abc import Iterable

from projections import billing
from service.domain.bills.run import Run
from service.domain.events import Event, Move, RunAdopted, RunQueued
from service.domain.states import ENDED

#: The types of the events that a replay reads, as the ledger names them.
CONCERNED = (Move, RunAdopted)


class Replay:
    """Feed it a project's events in the order of positions, from the first on."""

    def __init__(self) -> None:
        self._open: dict[str, Run] = {}

    @property
    def open(self) -> list[Run]:
        """The runs that are not over."""
        return list(self._open.values())

    def feed(self, events: Iterable[Event]) -> list[Run]:
        """The runs that these events ended."""
        over: list[Run] = []
        for event in events:
            key = billing.key(event)
            if key is None or isinstance(event.body, billing.ORDERED):
                continue
            row = billing.evolve(self._open.get(key), event)
            if not isinstance(event.body, Move):
                self._open[key] = row
                continue
            if isinstance(event.body, RunQueued):
                # A job that restarts at its timeout has no other end of the run before.
                before = self._open.pop(f"{event.job}/{(event.run or 0) - 1}", None)
                over += [before] if before is not None else []
            if event.body.target in ENDED:
                self._open.pop(key, None)
                over.append(row)
            else:
                self._open[key] = row
        return over

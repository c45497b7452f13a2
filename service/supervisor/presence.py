"""Whether the runs of an engine are looked after, and since when they were not."""

from __future__ import annotations

import asyncio
from datetime import datetime

from service.supervisor.clock import LedgerClock
from service.supervisor.names import RunId


class Presence:
    """Who cannot reach the ledger for longer than a lease lasts is as absent as one that has died: nothing of
    what it does counts meanwhile, and no user pays for it. The lease itself may be ours all the while.

    `since`: when an absence began that not every run has been told of; None when there is none.
    """

    def __init__(self, clock: LedgerClock, ttl_s: float, since: datetime | None) -> None:
        self._clock = clock
        self._ttl_s = ttl_s
        self._since = since
        self._seen: tuple[float, datetime] | None = None
        #: The runs that were told, and when by the monotonic clock.
        self._told: dict[RunId, float] = {}

    @property
    def since(self) -> datetime | None:
        if self._since is None and self._seen is not None and self._ticks() - self._seen[0] > self._ttl_s:
            self._since = self._seen[1]
        return self._since

    def moment(self) -> tuple[float, datetime]:
        """Now, for `seen`."""
        return self._ticks(), self._clock.now()

    def seen(self, moment: tuple[float, datetime]) -> None:
        """The lease said so, when it was asked at that moment."""
        self._seen = moment

    def owes(self, run: RunId) -> bool:
        """Whether the run is still to be told; what was told before the absence went on counts no more."""
        told = self._told.get(run)
        return self.since is not None and (told is None or self._ticks() - told > self._ttl_s)

    def told(self, run: RunId) -> None:
        self._told[run] = self._ticks()

    def all_told(self) -> None:
        self._since, self._seen = None, self.moment()
        self._told.clear()

    @staticmethod
    def _ticks() -> float:
        return asyncio.get_running_loop().time()

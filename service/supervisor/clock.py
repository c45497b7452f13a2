"""The database's clock, read now and then and carried on by the monotonic one in between."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime, timedelta

import structlog

from service.domain.behind import MOST_BEHIND_S
from service.supervisor.ports import SupervisorLedger

#: So often it is said at most that the clock is behind.
SAID_EVERY_S = 60.0

_log = structlog.get_logger()


class LedgerClock:
    """`now()` without a round trip: a timeout is told by the same clock that the ledger records."""

    def __init__(self, ledger: SupervisorLedger) -> None:
        self._ledger = ledger
        self._read_at = datetime.fromtimestamp(0, UTC)
        self._ticks = 0.0
        self._said = -math.inf
        #: By how many seconds it was behind the ledger's last event when it was read.
        self.behind_s = 0.0

    async def sync(self) -> None:
        found = await self._ledger.clock()
        self._read_at, self.behind_s = found.now, found.behind_s
        self._ticks = asyncio.get_running_loop().time()
        if self.behind_s > MOST_BEHIND_S and self._ticks - self._said >= SAID_EVERY_S:
            self._said = self._ticks
            _log.warning(
                "the database's clock is behind the ledger's last event; no run begins meanwhile",
                behind_s=round(self.behind_s, 1),
            )

    def now(self) -> datetime:
        return self._read_at + timedelta(seconds=asyncio.get_running_loop().time() - self._ticks)

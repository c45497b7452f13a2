"""The database's clock, read now and then and carried on by the monotonic one in between."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from service.supervisor.ports import SupervisorLedger


class LedgerClock:
    """`now()` without a round trip: a timeout is told by the same clock that the ledger records."""

    def __init__(self, ledger: SupervisorLedger) -> None:
        self._ledger = ledger
        self._read_at = datetime.fromtimestamp(0, UTC)
        self._ticks = 0.0

    async def sync(self) -> None:
        self._read_at = await self._ledger.now()
        self._ticks = asyncio.get_running_loop().time()

    def now(self) -> datetime:
        return self._read_at + timedelta(seconds=asyncio.get_running_loop().time() - self._ticks)

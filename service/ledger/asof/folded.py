"""Rows of then that were folded again lately: what was does not change, and who turns a list's pages asks for
the same ones with each."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import msgspec

from service.ledger.asof import rows

#: As many rows as are kept: some 40 MB.
MOST = 20_000
#: As many lists of then are read at once. Each may fold a project's whole history, and holds one of the few
#: connections of its process meanwhile; others wait for their turn without one.
AT_ONCE = 2
_encoder = msgspec.json.Encoder(order="deterministic")


class Folded:
    """The rows that one process has folded again, as the database keeps rows: JSON."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._texts: OrderedDict[tuple[str, str, int], str] = OrderedDict()

    @asynccontextmanager
    async def snapshot(self, pool: asyncpg.Pool) -> AsyncIterator[Any]:
        """As `rows.snapshot`, for a list: when it has its turn."""
        async with self._turns, rows.snapshot(pool) as connection:
            yield connection

    async def texts(self, connection: Any, fold: str, keys: Iterable[str], position: int) -> list[str]:
        """The rows of `keys` as of a position, without those that did not exist yet. `connection` is a
        `snapshot`'s."""
        asked = list(keys)
        # Taken before anything is awaited: others may drive out meanwhile what is there now.
        found = {
            key: self._texts[fold, key, position] for key in asked if (fold, key, position) in self._texts
        }
        missing = [key for key in asked if key not in found]
        if missing:
            for key, row in (await rows.refolded(connection, fold, missing, position)).items():
                found[key] = _encoder.encode(row).decode()
        self._remember(fold, position, found)
        return list(found.values())

    def _remember(self, fold: str, position: int, found: dict[str, str]) -> None:
        for key, text in found.items():
            self._texts[fold, key, position] = text
            self._texts.move_to_end((fold, key, position))
        while len(self._texts) > self._most:
            self._texts.popitem(last=False)

"""Rows of then that were folded again lately: what was does not change, and who turns a list's pages asks for
the same ones with each."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import msgspec

from service.ledger.asof import rows
from service.ledger.kept import Kept
from sql import queries

_SQL = queries("asof")

#: Of rows that are kept, at most: some 20,000 of jobs as they are mostly.
MOST_BYTES = 40 * 1024**2
#: Beside the row: the entry itself, its key.
_OWN_BYTES = 512
#: As many lists of then are read at once. Each may fold a project's whole history, and holds one of the few
#: connections of its process meanwhile; others wait for their turn without one.
AT_ONCE = 2
_encoder = msgspec.json.Encoder(order="deterministic")


class Folded:
    """The rows that one process has folded again, as the database keeps rows: JSON.

    A row is known by the hash of the event that it is as of: after a failover that lost events, another event
    may stand at the same position.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._turns = asyncio.Semaphore(AT_ONCE)
        self.kept = Kept[str](most_bytes)

    @asynccontextmanager
    async def snapshot(self, pool: asyncpg.Pool) -> AsyncIterator[Any]:
        """As `rows.snapshot`, for a list: when it has its turn."""
        async with self._turns, rows.snapshot(pool) as connection:
            yield connection

    async def texts(self, connection: Any, fold: str, keys: Iterable[str], position: int) -> list[str]:
        """The rows of `keys` as of a position, without those that did not exist yet. `connection` is a
        `snapshot`'s."""
        asked = list(keys)
        if not asked:
            return []
        at = await connection.fetchval(_SQL.hash_at, position)
        moment = f"{fold}/{position}/{'' if at is None else at.hex()}/"
        # Taken before anything else is awaited: others may drive out meanwhile what is there now.
        found = {key: text for key in asked if (text := self.kept.get(moment + key)) is not None}
        missing = [key for key in asked if key not in found]
        if missing:
            for key, row in (await rows.refolded(connection, fold, missing, position)).items():
                text = found[key] = _encoder.encode(row).decode()
                self.kept.put(moment + key, text, sys.getsizeof(text) + _OWN_BYTES)
        return list(found.values())

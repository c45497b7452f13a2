"""A pool that tells how much of what events hold its answers brought into the process."""

from __future__ import annotations

from typing import Any

import asyncpg


class Weighed:
    """`brought`: how many characters of bodies each of its answers had."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self.brought: list[int] = []

    async def fetchval(self, *arguments: Any) -> Any:
        return await self._pool.fetchval(*arguments)

    async def fetchrow(self, *arguments: Any) -> Any:
        return await self._pool.fetchrow(*arguments)

    async def fetch(self, *arguments: Any) -> Any:
        records = await self._pool.fetch(*arguments)
        self.brought.append(sum(len(record["data"] or "") for record in records))
        return records

"""The statements of one transaction, of which the last may be under way while the next is made."""

from __future__ import annotations

import asyncio
from typing import Any


class Sending:
    """One statement after the other over one connection. Leaves the connection free, whatever happened."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self._last: asyncio.Task[Any] | None = None

    async def __aenter__(self) -> Sending:
        return self

    async def __aexit__(self, *_raised: object) -> None:
        """Whatever happened: the connection is left free, for the transaction's end."""
        last, self._last = self._last, None
        if last is not None:
            last.cancel()
            await asyncio.gather(last, return_exceptions=True)

    async def execute(self, statement: str, *arguments: Any) -> None:
        """Begin a statement when the one before is done. Raises what that one raised."""
        await self.all()
        self._last = asyncio.create_task(self.connection.execute(statement, *arguments))
        # One turn of the loop to begin it, and one to bring it to the socket.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def all(self) -> None:
        """Wait for the last one. Raises what it raised."""
        last, self._last = self._last, None
        if last is not None:
            await last

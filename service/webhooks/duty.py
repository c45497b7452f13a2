"""Who delivers: one process at a time over all, by an advisory lock of Postgres on a connection of its own.

All that is remembered of deliveries is written over that very connection. So a process that lost the lock
cannot write: its connection is gone. The server ends the connection of one that stays silent, also when it
was only stopped; until then it is silent, and after that it notices.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg

from service.ledger.database import close, translated
from sql import queries

_SQL = queries("webhooks")

#: A holder that says nothing for so long has lost the duty. It says something every third of that.
SILENCE_S = 12.0
#: How often the others ask whether the duty is free.
ASK_S = 1.0

Connect = Callable[[], Awaitable[asyncpg.Connection]]


class Duty:
    """The duty, held. Its errors are `Unavailable`: whoever sees one no longer has it."""

    def __init__(self, connection: Any, silence_s: float) -> None:
        self._connection = connection
        self._silence_s = silence_s
        self._turn = asyncio.Lock()
        self._lost = asyncio.Event()
        connection.add_termination_listener(lambda _: self._lost.set())

    async def fetch(self, statement: str, *arguments: Any) -> list[Any]:
        async with self._turn:
            with translated():
                found: list[Any] = await self._connection.fetch(statement, *arguments)
        return found

    async def execute(self, *statements: tuple[Any, ...]) -> None:
        """All of them or none, in order; each is a statement with its arguments."""
        async with self._turn:
            with translated():
                async with self._connection.transaction():
                    for statement, *arguments in statements:
                        await self._connection.execute(statement, *arguments)

    async def keep(self) -> None:
        """Hold on to it, for ever. Raises `Unavailable` when it is lost."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._silence_s / 3):
                    await self._lost.wait()
            async with asyncio.timeout(self._silence_s):
                await self.fetch(_SQL.ping)


@asynccontextmanager
async def on_duty(
    connect: Connect, *, silence_s: float = SILENCE_S, ask_s: float = ASK_S
) -> AsyncIterator[Duty]:
    """Wait until the duty is free, and hold it while the context lasts. Raises `Unavailable`."""
    connection = await connect()
    try:
        with translated():
            while not await connection.fetchval(_SQL.take_duty):  # noqa: ASYNC110 (the server alone knows)
                await asyncio.sleep(ask_s)
            await connection.execute(_SQL.bound_silence, f"{silence_s * 1000:.0f}")
        yield Duty(connection, silence_s)
    finally:
        await close(connection)

"""What works while a context lasts: a writer, or a listener, over a URL of a test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Protocol, TypeVar

from service.ledger import database
from service.ledger.follow import Listener
from service.ledger.writer import PATIENCE_S, Writer
from tests.support.waiting import until


class _Runs(Protocol):
    async def run(self) -> None: ...


T = TypeVar("T", bound=_Runs)


@asynccontextmanager
async def working(part: T) -> AsyncIterator[T]:
    """`part`, running in a task of its own."""
    task = asyncio.create_task(part.run())
    try:
        yield part
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def writing(url: str, *, patience_s: float = PATIENCE_S) -> AsyncIterator[Writer]:
    async with working(Writer(partial(database.connect, url), patience_s=patience_s)) as writer:
        yield writer


@asynccontextmanager
async def listening(url: str, *, ping_s: float) -> AsyncIterator[Listener]:
    """One that is connected."""
    async with working(Listener(partial(database.connect, url), ping_s=ping_s)) as listener:
        await until(listener.connected.is_set)
        yield listener

"""Bounded concurrency whose first failure is raised bare, not in an exception group."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TypeVar

T = TypeVar("T")


@asynccontextmanager
async def group() -> AsyncIterator[asyncio.TaskGroup]:
    """A TaskGroup: the first failure cancels the rest and is the one that is raised."""
    try:
        async with asyncio.TaskGroup() as tasks:
            yield tasks
    except BaseExceptionGroup as failures:
        first: BaseException = failures
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from first.__cause__


async def each(items: Iterable[T], work: Callable[[T], Awaitable[None]], concurrency: int) -> None:
    """`await work(item)` for every item, at most `concurrency` at once. Holds no task per item."""
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            await work(item)

    async with group() as tasks:
        for _ in range(concurrency):
            tasks.create_task(worker())

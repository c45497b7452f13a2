"""Waiting for named moments, with a deadline, so that no test sleeps for a guessed time."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

#: Nothing takes as long, except where others have the processors: then a test is late, and not wrong.
DEADLINE_S = 60.0
#: No test that asks for this month's bill takes so long.
MONTHS_END = timedelta(minutes=1)
_LOOK_EVERY_S = 0.01


async def until(
    condition: Callable[[], object | Awaitable[object]], deadline_s: float = DEADLINE_S, *, what: str = ""
) -> None:
    """Return as soon as `condition` (a function or a coroutine function) is true; fail at the deadline."""
    loop = asyncio.get_running_loop()
    end = loop.time() + deadline_s
    while True:
        found = condition()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return
        if loop.time() > end:
            raise AssertionError(f"not within {deadline_s} s: {what or inspect.getsource(condition).strip()}")
        await asyncio.sleep(_LOOK_EVERY_S)


async def until_no_months_end() -> None:
    """Return when this month (of UTC) is not over in a moment: at once, but in its last minute."""
    month = f"{datetime.now(UTC) + MONTHS_END:%Y-%m}"
    await until(lambda: f"{datetime.now(UTC):%Y-%m}" == month, MONTHS_END.total_seconds() + DEADLINE_S)


async def gathered(chunks: AsyncGenerator[bytes | None, None]) -> bytes:
    """All of a stream that ends."""
    async with aclosing(chunks):
        return b"".join([chunk async for chunk in chunks if chunk])

"""Work that can be cancelled for certain."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def whole(work: Coroutine[Any, Any, T]) -> T:
    """`work` in a task of its own. For whoever tries again after an error: cancelled, it is cancelled.

    Without that an error can take the place of the cancellation, for example in a task group of which a task
    fails at that moment, and who takes it in and tries again never ends. And a failed task group leaves
    `Task.cancelling()` at one for good (Python 3.11 and 3.12), which misleads whoever asks for it later.

    Raises what `work` raises.
    """
    task = asyncio.create_task(work)
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        while not task.done():
            task.cancel()
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:
                continue  # asked once more: so is the work
        if not task.cancelled():
            task.exception()  # seen: the cancellation is what the caller hears about
        raise
    return task.result()


async def dropped(task: asyncio.Future[Any]) -> None:
    """Ends what nobody waits for any more. What it raised counts as seen, also where it had just failed."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

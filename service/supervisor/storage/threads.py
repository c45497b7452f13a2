"""Adding up beside the event loop: in few threads of their own, given up as soon as nobody wants the sum."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from service.supervisor.storage.tree import Tally
from service.supervisor.storage.usage import Usage

_THREADS = ThreadPoolExecutor(max_workers=2, thread_name_prefix="jobyard-storage")


async def added_up(add: Callable[[Tally], None]) -> Usage:
    """What `add` puts into a tally. Raises what it raises.

    A cancelled caller waits until the thread has noticed, so that nothing is read on behalf of nobody.
    """
    stop = threading.Event()
    work = _THREADS.submit(_add, add, stop)
    waiting = asyncio.wrap_future(work)
    try:
        return await asyncio.shield(waiting)
    except asyncio.CancelledError:
        stop.set()
        if not work.cancel():  # it has begun
            await asyncio.wait([waiting])
            waiting.exception()  # seen: the cancellation is what the caller hears about
        raise


def _add(add: Callable[[Tally], None], stop: threading.Event) -> Usage:
    tally = Tally(stop)
    began = time.thread_time()
    add(tally)
    return Usage(tally.bytes, tuple(tally.missed), time.thread_time() - began)

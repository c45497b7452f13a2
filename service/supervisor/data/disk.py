"""File work off the event loop, by a bounded number of threads of its own.

The default executor is left to name lookups: a slow disk must not stop them.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import ParamSpec, TypeVar

from service.errors import DataError

P = ParamSpec("P")
T = TypeVar("T")

_THREADS = ThreadPoolExecutor(max_workers=4, thread_name_prefix="jobyard-disk")


async def run(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`work(...)` in a disk thread.

    A cancelled caller still waits for the thread to finish, so that no descriptor that the caller is about
    to close is in use: file work is short, and bounded by the limits.
    """
    task = asyncio.get_running_loop().run_in_executor(_THREADS, partial(work, *args, **kwargs))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # seen: the cancellation is what the caller hears about
        raise


@contextmanager
def faults(what: str) -> Iterator[None]:
    """Turn an OSError of the disk into DataError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(f"{what}: no space is left on the volume's disk") from error
        raise DataError(f"{what}: {error.strerror or error}") from error

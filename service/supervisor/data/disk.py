"""File work off the event loop, by a bounded number of threads of its own.

The default executor is left to name lookups: a slow disk must not stop them.
"""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, ParamSpec, TypeVar

from service.errors import DataError, DiskFull, NodeFull

P = ParamSpec("P")
T = TypeVar("T")

SLICE_S = 0.2
"""How long one piece of long work keeps a thread, and whoever was cancelled waits."""

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


async def in_slices(steps: Iterator[None], between: Callable[[], None] = lambda: None) -> None:
    """All steps of long file work, in disk threads, a slice at a time; `between` slices on the loop."""
    try:
        while await run(_slice, steps):
            between()
    finally:
        await run(_close, steps)


async def outcome(steps: Generator[None, None, T]) -> T:
    """As `in_slices`, and what the steps return at their end."""
    ended: list[T] = []

    def kept() -> Iterator[None]:
        ended.append((yield from steps))

    await in_slices(kept())
    return ended[0]


def _slice(steps: Iterator[None]) -> bool:
    """True when there is more to do."""
    until = time.monotonic() + SLICE_S
    return any(time.monotonic() >= until for _ in steps)


def _close(steps: Iterator[None]) -> None:
    close = getattr(steps, "close", None)
    if close is not None:
        close()


class Batches:
    """Many small pieces of file work for few crossings to a thread.

    One thread at a time runs whatever queued while the one before it ran; there is no timer. The order is
    kept. Use one for each pull or push.
    """

    def __init__(self) -> None:
        self._queue: list[tuple[Callable[[], Any], asyncio.Future[Any]]] = []
        self._running: asyncio.Task[None] | None = None

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`work(...)` with others, in a disk thread. Like `run`, it ends only when the work has."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.append((partial(work, *args, **kwargs), done))
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._drain())
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            await asyncio.wait([done])
            done.exception()  # seen: the cancellation is what the caller hears about
            raise

    async def _drain(self) -> None:
        while self._queue:
            batch, self._queue = self._queue, []
            outcomes = await run(_all, [work for work, _ in batch])
            for (_, done), (value, error) in zip(batch, outcomes, strict=True):
                if error is None:
                    done.set_result(value)
                else:
                    done.set_exception(error)


def _all(batch: list[Callable[[], Any]]) -> list[tuple[Any, Exception | None]]:
    outcomes: list[tuple[Any, Exception | None]] = []
    for work in batch:
        try:
            outcomes.append((work(), None))
        except Exception as error:  # noqa: BLE001 (handed to the one who waits for it)
            outcomes.append((None, error))
    return outcomes


NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def full_waits() -> Iterator[None]:
    """Turn an OSError of a full disk into `NodeFull`, which is waited for; others stay what they are."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        raise NodeFull(f"the node's disk is full ({error.strerror})") from error


@contextmanager
def faults(what: str) -> Iterator[None]:
    """Turn an OSError of the disk into DataError."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE:
            raise DiskFull(f"{what}: no space is left on the volume's disk") from error
        raise DataError(f"{what}: {error.strerror or error}") from error

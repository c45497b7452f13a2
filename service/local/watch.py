"""Watches over parts: one that ends without having been asked to is started again."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import structlog

from service.errors import JobyardError
from service.local.apt import Say

#: How often it is looked whether a part still runs, and the first pause after a start that failed.
_WATCH_S = 1.0
_LONGEST_PAUSE_S = 30.0

_log = structlog.get_logger()


class Part(Protocol):
    """What is started, watched and stopped. `name` is for people."""

    @property
    def name(self) -> str: ...

    async def start(self) -> None: ...

    def has_died(self) -> bool:
        """Whether it was started and is gone without having been stopped."""
        ...

    async def restart(self) -> None:
        """Starts the very same again, where it was, once it has died."""
        ...

    async def stop(self) -> None: ...


@asynccontextmanager
async def kept_running(parts: Sequence[Part], say: Say) -> AsyncIterator[None]:
    """Starts again what dies of `parts` while the context lasts. `say` gets lines for people.

    Each part has a task of its own, so that a slow start does not hold up the others. Once the context has
    ended nothing is started any more: then the parts can be stopped.
    """
    watchers = [asyncio.create_task(_watch(part, say), name=f"watch over {part.name}") for part in parts]
    try:
        yield
    finally:
        await _end(watchers)


async def _end(watchers: Sequence[asyncio.Task[None]]) -> None:
    """Cancels them until they are gone: code below can lose a cancellation that comes as it succeeds."""
    left = set(watchers)
    while left:
        for watcher in left:
            watcher.cancel()
        _, left = await asyncio.wait(left, timeout=_WATCH_S)


async def _watch(part: Part, say: Say) -> None:
    while True:
        await asyncio.sleep(_WATCH_S)
        if part.has_died():
            await _bring_back(part, say)


async def _bring_back(part: Part, say: Say) -> None:
    """Starts `part` until it runs; the pauses between the attempts grow."""
    since, pause_s = time.monotonic(), _WATCH_S
    _tell(say, f"{part.name} ended by itself; starting it again")
    for attempt in itertools.count(1):
        reason = await _attempt(part)
        if reason is None:
            down_s = round(time.monotonic() - since, 3)
            _log.warning("part started again", part=part.name, attempts=attempt, down_s=down_s)
            _tell(say, f"{part.name} runs again")
            return
        _log.error("part does not start", part=part.name, attempt=attempt, pause_s=pause_s, error=reason)
        _tell(say, f"{part.name} does not start: {reason}; trying again in {pause_s:.0f} s")
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)


async def _attempt(part: Part) -> str | None:
    """One start; why it failed, or None."""
    try:
        await part.restart()
    except JobyardError as error:
        return error.message
    except Exception as error:  # noqa: BLE001
        # A full disk, say, or a fault of ours: it is told in full, and no reason to leave the part dead.
        _log.error("part cannot be started", part=part.name, exc_info=True)
        return f"{type(error).__name__}: {error}"
    return None


def _tell(say: Say, text: str) -> None:
    with contextlib.suppress(OSError):  # the terminal is gone, the log has it all
        say(text)

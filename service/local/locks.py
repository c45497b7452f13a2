"""Locks of this machine, for what no two Jobyards on it should do at once. Only root has what needs them."""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

_FOLDER = Path("/run")  # root's own, so that nobody else can put a file or a link there
_LOOK_EVERY_S = 0.05

_log = structlog.get_logger()


@asynccontextmanager
async def taken(name: str, *, patience_s: float) -> AsyncIterator[None]:
    """Holds the machine's lock `name` while the context lasts; the kernel frees it even after a kill -9.

    After `patience_s` it goes on without the lock: whoever holds it that long hangs, and should not hold
    up the others. So this is for courtesy, not for safety.
    """
    # Tried again and again rather than waited for in a thread, which could not be cancelled. dockerd does
    # not inherit the descriptor: it is closed on exec.
    handle = os.open(_FOLDER / f"jobyard-{name}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        deadline = time.monotonic() + patience_s
        while not _is_ours(handle):
            if time.monotonic() > deadline:
                _log.warning("lock not had, going on without it", lock=name, waited_s=patience_s)
                break
            await asyncio.sleep(_LOOK_EVERY_S)
        yield
    finally:
        os.close(handle)


def _is_ours(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

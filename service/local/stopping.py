"""Being asked to stop: once in order, and once more at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Iterator


def listen(stop: asyncio.Event) -> None:
    """SIGINT or SIGTERM sets `stop`: everything then ends in order, as soon as open requests are answered.
    SIGHUP does as well, unless it is ignored.

    Another one ends this process where it stands. That is as safe as any kill, and leaves what a kill leaves:
    the next `up` takes over the parts.
    """
    for number in (signal.SIGINT, signal.SIGTERM, *_hangups()):
        asyncio.get_running_loop().add_signal_handler(number, _asked, stop, number)


def _asked(stop: asyncio.Event, number: signal.Signals) -> None:
    if stop.is_set() and number is not signal.SIGHUP:  # it comes of the kernel and of the shell, for one end
        with contextlib.suppress(OSError):  # whoever read it may be gone
            print("Stopped at once.", file=sys.stderr, flush=True)
        os._exit(128 + number)
    stop.set()


@contextlib.contextmanager
def cancelling() -> Iterator[None]:
    """SIGTERM, and SIGHUP unless it is ignored, then end us as Ctrl-C does: by cancelling the present task,
    so that everything is stopped in order."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    if task is None:
        raise RuntimeError("nothing runs here that could be cancelled")
    hangups = _hangups()
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    for number in hangups:
        loop.add_signal_handler(number, _cancel_once, task)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, *hangups):
            loop.remove_signal_handler(number)


def _cancel_once(task: asyncio.Task[object]) -> None:
    if not task.cancelling():
        task.cancel()


def _hangups() -> tuple[signal.Signals, ...]:
    """What a terminal or an SSH session says as it closes. `nohup` has it ignored, and means that."""
    return () if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (signal.SIGHUP,)

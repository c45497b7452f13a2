"""Being asked to stop: once in order, and once more at once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys


def listen(stop: asyncio.Event) -> None:
    """SIGINT or SIGTERM sets `stop`: everything then ends in order, as soon as open requests are answered.

    Another one ends this process where it stands. That is as safe as any kill, and leaves what a kill leaves:
    the next `up` takes over the parts.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, _asked, stop, number)


def _asked(stop: asyncio.Event, number: signal.Signals) -> None:
    if stop.is_set():
        print("Stopped at once.", file=sys.stderr, flush=True)
        os._exit(128 + number)
    stop.set()

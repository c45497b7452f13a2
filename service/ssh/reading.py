"""What comes in on one connection, a little at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

#: asyncssh takes all that it is given at once: hundreds of the smallest packets in these, some ten
#: milliseconds, and in what the loop would read by itself half a second, for every connection that is ready.
MOST_READ_BYTES = 16 * 1024


class Reading(asyncio.BufferedProtocol):
    """Between a connection and its transport, which is told of it when it has been made.

    `moved` is called when something has come in.
    """

    def __init__(self, conn: Any, moved: Callable[[], None]) -> None:
        self._conn = conn
        self._moved = moved
        self._buffer = bytearray(MOST_READ_BYTES)

    def get_buffer(self, _sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._conn.data_received(bytes(memoryview(self._buffer)[:nbytes]))
        self._moved()

    def eof_received(self) -> None:
        self._conn.eof_received()

    def pause_writing(self) -> None:
        self._conn.pause_writing()

    def resume_writing(self) -> None:
        self._conn.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._conn.connection_lost(exc)

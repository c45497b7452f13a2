"""What is sent on one connection: when it takes more, and that little waits, whatever its client does.

asyncssh keeps what its socket does not take, and all but the exchange itself while keys are exchanged, both
without bound. These are told to it through private names, which the tests hold on to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

#: A connection whose line is full is not read from until less than this waits to be sent.
MOST_UNSENT_BYTES = 1024**2
#: Packets that wait for the end of a key exchange. What channels say is held back before it becomes one, so
#: these are answers to what a client asked before it heard of the exchange.
MOST_DEFERRED = 2048
#: A client has so long for its part of a key exchange, once it has what was sent before.
EXCHANGE_S = 60.0


class Sending:
    """`free` while the connection takes what is sent; after `stop`, so that nobody is left waiting.

    `cut` is told why the connection must not go on, and ends it at once.
    """

    def __init__(self, conn: Any, cut: Callable[[str], None]) -> None:
        self.free = asyncio.Event()
        self.free.set()
        self._conn = conn
        self._cut = cut
        self._full = False
        self._over = False
        self._deferred_bytes = 0
        self._exchange: asyncio.TimerHandle | None = None
        self._send, conn.send_packet = conn.send_packet, self._bounded
        self._begin, conn._send_kexinit = conn._send_kexinit, self._exchange_begins
        self._end, conn.send_newkeys = conn.send_newkeys, self._exchange_ends
        conn.pause_writing, conn.resume_writing = self._line_full, self._line_free
        conn._transport.set_write_buffer_limits(high=MOST_UNSENT_BYTES)

    @property
    def unsent_bytes(self) -> int:
        """What waits for the line, and for the end of a key exchange."""
        transport = self._conn._transport
        return self._deferred_bytes + (0 if transport is None else transport.get_write_buffer_size())

    def stop(self) -> None:
        """The connection is lost."""
        self._over = True
        self._unwatch()
        self.free.set()

    def _settle(self) -> None:
        if self._over or not (self._full or self._exchange):
            self.free.set()
        else:
            self.free.clear()

    def _cut_off(self, why: str) -> None:
        self.stop()
        self._cut(why)

    # -- the line -----------------------------------------------------------------------------------

    def _line_full(self) -> None:
        self._full = True
        self._settle()
        if self._conn._transport is not None:
            self._conn._transport.pause_reading()

    def _line_free(self) -> None:
        self._full = False
        self._settle()
        if self._conn._transport is not None:
            self._conn._transport.resume_reading()

    def _bounded(self, kind: int, *args: bytes, handler: Any = None) -> None:
        if self._over:
            return
        deferred = len(self._conn._deferred_packets)
        self._send(kind, *args, handler=handler)
        if (now := len(self._conn._deferred_packets)) > deferred:
            self._deferred_bytes += sum(map(len, args))
        elif not now:
            self._deferred_bytes = 0
        if now > MOST_DEFERRED:
            self._cut_off("too much was asked for amid a key exchange")

    # -- key exchanges ------------------------------------------------------------------------------

    def _exchange_begins(self) -> None:
        if not self._over:
            self._watch()
        self._settle()
        self._begin()

    def _exchange_ends(self, secret: bytes, digest: bytes) -> None:
        self._unwatch()
        self._end(secret, digest)  # and sends what has waited, which may begin another one
        self._settle()

    def _watch(self) -> None:
        self._unwatch()
        self._exchange = asyncio.get_running_loop().call_later(EXCHANGE_S, self._exchange_lasts)

    def _unwatch(self) -> None:
        if self._exchange is not None:
            self._exchange.cancel()
            self._exchange = None

    def _exchange_lasts(self) -> None:
        """On a slow line our part of it may not be on its way yet; one that is full is bounded anyway."""
        transport = self._conn._transport
        if transport is not None and transport.get_write_buffer_size() > 0:
            self._watch()
        else:
            self._cut_off("a key exchange was not finished")

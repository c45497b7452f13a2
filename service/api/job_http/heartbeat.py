"""Whether a client is still there: it is asked by aiohttp's heartbeat, and silence alone does not say no.

Its answer may lie unread, while we read nothing since the job takes nothing; and the question stands behind
all that was sent before, in our buffers, in both kernels' and in the client's. Who takes nothing for ever is
ended by the kernel (`door.TAKES_NOTHING_S`).
"""

from __future__ import annotations

import asyncio

from aiohttp import WSMsgType, web

from service.paced import is_held

#: Of what stands before a ping at least so much is taken in a second by whoever is there.
SLOWEST_BYTES = 64 * 1024


class AskedSocket(web.WebSocketResponse):
    """A client's socket with a heartbeat, of which the messages are sent by `send_frame`."""

    #: Of the messages since the client was last heard, as far as it was not waited for them yet.
    _unheard_bytes = 0

    async def send_frame(self, message: bytes, opcode: WSMsgType, compress: int | None = None) -> None:
        self._unheard_bytes += len(message)
        await super().send_frame(message, opcode, compress)

    def _on_data_received(self) -> None:
        self._unheard_bytes = 0
        super()._on_data_received()

    def _pong_not_received(self) -> None:
        """aiohttp's hook: it has waited for an answer for half a heartbeat."""
        if self._req is None or self._req.transport is None:
            return
        protocol = self._req.protocol
        if is_held(protocol) or protocol.writing_paused:
            self._reset_heartbeat()
        elif wait_s := self._unheard_bytes / SLOWEST_BYTES:
            self._unheard_bytes = 0
            self._pong_response_cb = asyncio.get_running_loop().call_later(wait_s, self._pong_not_received)
        else:
            super()._pong_not_received()

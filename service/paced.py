"""One read a turn: a connection whose other end sends without pause has its turn of the loop, and no more.

uvloop takes up to 32 reads of a connection in a row, as long as each fills its buffer of 256,000 bytes.
Timeouts, cancellations and all other connections would wait for all that is made of them.
"""

from __future__ import annotations

import asyncio

from aiohttp.base_protocol import BaseProtocol

#: A read of less has not filled the buffer, so it is the last in its row: nothing has to be done about it.
FULL_BYTES = 64 * 1024


def rest(protocol: BaseProtocol, data: bytes) -> None:
    """`data` was read of a connection: the next is when all others have had their turn.

    aiohttp's own pauses are left alone, whichever comes first.
    """
    transport = protocol.transport
    if len(data) < FULL_BYTES or transport is None or transport.is_closing() or is_held(protocol):
        return
    transport.pause_reading()
    asyncio.get_running_loop().call_soon(_go_on, protocol)


def _go_on(protocol: BaseProtocol) -> None:
    transport = protocol.transport
    if transport is not None and not transport.is_closing() and not is_held(protocol):
        transport.resume_reading()


def is_held(protocol: BaseProtocol) -> bool:
    """Whether aiohttp reads no more until somebody has taken what there is; it then goes on by itself."""
    return protocol._reading_paused or protocol._buffer_paused

"""Waiting until the other end of a connection takes what was written to it: aiohttp's own, by private names.

All who wait share one future. One of them that is cancelled, as by a timeout, cancels it for all, and aiohttp
keeps it: whoever waits next, such as for a closing frame, would be cancelled by it too.
"""

from __future__ import annotations

from aiohttp.base_protocol import BaseProtocol


async def drained(protocol: BaseProtocol) -> None:
    """Until there is room for more. Raises `ConnectionError` when the connection has ended."""
    await protocol._drain_helper()


def nobody_waits(protocol: BaseProtocol) -> None:
    """All who waited have ended: the next one waits anew."""
    if protocol._drain_waiter is not None and protocol._drain_waiter.cancelled():
        protocol._drain_waiter = None

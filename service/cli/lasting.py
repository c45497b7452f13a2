"""Sockets of connections that may last: they find out that the other side is gone."""

from __future__ import annotations

import socket
from typing import Any

#: After so long without a word the other side is asked whether it is there, so often, and so many times.
IDLE_S, PROBE_S, PROBES = 30, 10, 3
_OPTIONS = (("TCP_KEEPIDLE", IDLE_S), ("TCP_KEEPINTVL", PROBE_S), ("TCP_KEEPCNT", PROBES))


def opened(address: tuple[Any, ...]) -> socket.socket:
    """A socket for an address of `getaddrinfo`. A host that lost its power, or that no way leads to any more,
    says nothing, and who only reads would wait for it for ever."""
    made = socket.socket(*address[:3])
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _OPTIONS:
        if hasattr(socket, name):  # not everywhere by these names
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return made

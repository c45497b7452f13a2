"""Ports that several processes of one service share, and that no other service shares with them.

The kernel lets whatever runs as the same user join in, and spreads the connections over all: over two ledgers
if there are two services.
"""

from __future__ import annotations

import errno
import socket
import time
from contextlib import AsyncExitStack

from service import app

#: So long the processes of a service that was killed may need to let go of a port.
_PATIENCE_S = 5.0
_LOOK_S = 0.05


def shared(host: str, port: int, stack: AsyncExitStack) -> socket.socket:
    """A bound socket whose port the processes of this service share, and nobody else, while `stack` lasts.
    Port 0 takes a free one. Raises `OSError` for a port that is taken."""
    if port:
        # Bound by name first, as two services that start at once both find that nobody listens yet.
        stack.enter_context(_named(host, port))
        _require_unheard(host, port)
    # Whoever is no service of this kind may still come between: the moment until our own processes listen.
    return stack.enter_context(app.listening_socket(host, port, shared=True))


def _named(host: str, port: int) -> socket.socket:
    """Stands for the port: a name of the network's own that the kernel frees with its process."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        made.bind(f"\0jobyard {host} {port}")
    except OSError:
        made.close()
        raise
    return made


def _require_unheard(host: str, port: int) -> None:
    """Nobody listens there who would share it, neither there nor on all addresses."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            app.listening_socket(host, port, shared=False).close()
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise
            time.sleep(_LOOK_S)
        else:
            return

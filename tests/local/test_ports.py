"""Ports that processes of one service share: the kernel would let another service join in unseen."""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack

import pytest

from service.app import listening_socket
from service.local import ports


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_PATIENCE_S", 0.2)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        found: int = server.getsockname()[1]
        return found


async def test_another_service_that_starts_at_once_has_the_port() -> None:
    """Neither listens yet."""
    port = free_port()
    async with AsyncExitStack() as ours, AsyncExitStack() as theirs:
        ports.shared("127.0.0.1", port, ours)
        with pytest.raises(OSError, match="Address already in use"):
            ports.shared("127.0.0.1", port, theirs)
        ports.shared("127.0.0.2", port, theirs)
    async with AsyncExitStack() as ours:
        ports.shared("127.0.0.1", port, ours)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
async def test_whoever_listens_and_would_share_has_the_port(host: str) -> None:
    with listening_socket(host, 0, shared=True) as theirs:
        theirs.listen()
        async with AsyncExitStack() as ours:
            with pytest.raises(OSError, match="Address already in use"):
                ports.shared("127.0.0.1", theirs.getsockname()[1], ours)


async def test_our_own_processes_share_it_and_what_a_client_left_is_no_obstacle() -> None:
    with socket.create_server(("127.0.0.1", 0)) as before:
        port = before.getsockname()[1]
        with socket.create_connection(before.getsockname()):
            before.accept()[0].close()  # it was closed by us: the kernel keeps that in mind for a minute
    async with AsyncExitStack() as ours:
        held = ports.shared("127.0.0.1", port, ours)
        with listening_socket("127.0.0.1", port, shared=True) as one:
            one.listen()
            assert one.getsockname() == held.getsockname()

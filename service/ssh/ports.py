"""What the SSH gateway needs of the parts beside it. `service.app` hands in the real ones."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

import asyncssh

from service.ledger.ledger import Ledger


class Output(Protocol):
    """What came out: on standard output (1) or standard error (2)."""

    @property
    def stream(self) -> int: ...

    @property
    def data(self) -> bytes: ...


class Far(Protocol):
    """The far end of a channel: what is in the container. Raises `Unavailable` when the line to it breaks."""

    def output(self) -> AsyncIterator[Output]:
        """All that comes from it, no faster than it is asked for."""

    async def write(self, data: bytes) -> None:
        """Hand on what the client says; waits while nobody reads it."""

    async def end_input(self) -> None: ...


class Running(Far, Protocol):
    """A command in a container."""

    async def resize(self, width: int, height: int) -> None: ...

    async def signal(self, number: int) -> bool:
        """Send it a signal; False when that cannot be done."""

    async def exit_code(self) -> int:
        """After its output has ended."""


class Execs(Protocol):
    def open(
        self,
        container_id: str,
        command: Sequence[str],
        *,
        stdin: bool = False,
        stdout: bool = True,
        stderr: bool = True,
        tty: bool = False,
        env: Sequence[tuple[str, str]] = (),
    ) -> AbstractAsyncContextManager[Running]:
        """Run a command while the context lasts. Raises `EngineError` or `Unavailable`."""


class Inside(Protocol):
    def files(self, container_id: str) -> AbstractAsyncContextManager[Running]:
        """SFTP over a container's files while the context lasts. Raises `OutOfReach` where it cannot be."""

    async def connect(self, container_id: str, port: int) -> socket.socket:
        """A connection to a port within. Raises `OSError` when nobody answers, `EngineError`, `Unavailable`.

        Where it cannot be gone into, it is the container's address that is connected to.
        """


@dataclass(frozen=True)
class SshParts:
    """Everything the gateway is made of."""

    ledger: Ledger
    execs: Execs
    inside: Inside
    host_key: asyncssh.SSHKey

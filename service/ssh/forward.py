"""A connection of the client's to a port of the job's own (`ssh -L`): to its loopback, and nowhere else."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

import asyncssh

from service.errors import Unavailable
from service.ssh.talk import Line, Talk, ended

#: What the job calls itself.
OWN_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
_PIECE_BYTES = 64 * 1024


@dataclass(frozen=True)
class _Piece:
    data: bytes
    stream: int = 1


class Connection:
    """The far end of a forward: a socket that does not block. Nothing is kept here, either way."""

    def __init__(self, made: socket.socket) -> None:
        self._socket = made
        self._loop = asyncio.get_running_loop()

    async def output(self) -> AsyncIterator[_Piece]:
        try:
            while data := await self._loop.sock_recv(self._socket, _PIECE_BYTES):
                yield _Piece(data)
        except OSError:
            return  # it was cut, which is an end as well

    async def write(self, data: bytes) -> None:
        try:
            await self._loop.sock_sendall(self._socket, data)
        except OSError as error:
            raise Unavailable("the job closed the connection") from error

    async def end_input(self) -> None:
        with suppress(OSError):  # it was cut, which its output tells
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._socket.close()


class Forward(Talk, asyncssh.SSHTCPSession[bytes]):
    """The channel; `run` is to be started as it is opened."""

    def __init__(self, line: Line, far: Connection) -> None:
        super().__init__(line)
        self._far = far

    async def run(self) -> None:
        """Until both sides have said all they have to say, or one is gone."""
        out, gone = asyncio.create_task(self._out()), asyncio.create_task(self.gone.wait())
        both = {out, asyncio.create_task(self.hand_in(self._far))}
        try:
            while not gone.done() and (left := {each for each in both if not each.done()}):
                await asyncio.wait(left | {gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await ended(gone, *both)
            self._far.close()
            if self._chan is not None:
                self._chan.close()

    async def _out(self) -> None:
        await self.hand_out(self._far)
        with suppress(OSError):  # the channel is closed already
            self._chan.write_eof()

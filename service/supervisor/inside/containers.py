"""What the service asks of the inside of a container: its files by SFTP, and connections to its own ports."""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from service.errors import NotRunning, OutOfReach, Unavailable
from service.supervisor.engine import inspect
from service.supervisor.engine.exec import Output
from service.supervisor.engine.wire import Wire, refused, safe_name
from service.supervisor.inside.hold import CLONE_NEWNET, Held, NotHeld, hold

CALL_TIMEOUT_S = 30.0
CONNECT_S = 10.0
_PROGRAM = Path(__file__).with_name("enter.py")
_PIECE_BYTES = 64 * 1024
_LOOPBACKS = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))


@dataclass(frozen=True)
class _Place:
    """Where a running container is. `pid` is that of its first process on the engine's host."""

    pid: int
    home: str
    ip: str | None


class Files:
    """An SFTP session in a container, with the streams and the end of a command."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._in, self._out, self._err = _all(process.stdin), _all(process.stdout), _all(process.stderr)

    async def output(self) -> AsyncIterator[Output]:
        """What it answers, and at last why it ended, when it says so."""
        while data := await self._out.read(_PIECE_BYTES):
            yield Output(1, data)
        if said := await self._err.read(_PIECE_BYTES):
            yield Output(2, said)

    async def write(self, data: bytes) -> None:
        """Requests; waits while they are not read. Raises `Unavailable` when it has ended."""
        try:
            self._in.write(data)
            await self._in.drain()
        except OSError as error:
            raise Unavailable("the SFTP session has ended") from error

    async def end_input(self) -> None:
        self._in.close()

    async def resize(self, _width: int, _height: int) -> None:
        """There is no terminal."""

    async def signal(self, _number: int) -> bool:
        """It ends with its input."""
        return False

    async def exit_code(self) -> int:
        return await self._process.wait()


class Inside:
    """The inside of one engine's containers. Make it within a running event loop."""

    def __init__(self, host: str | None = None) -> None:
        self._wire = Wire(host)

    async def close(self) -> None:
        await self._wire.close()

    @asynccontextmanager
    async def files(self, container_id: str) -> AsyncIterator[Files]:
        """Serve a container's files while the context lasts, with the job's own rights.

        Raises `OutOfReach`, `NotRunning`, `EngineError` and `Unavailable`.
        """
        place = await self._place(container_id)
        self._held(place, container_id).close()  # told before anything is started
        words = (sys.executable, "-I", "-S", str(_PROGRAM), str(place.pid), container_id, place.home)
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"LC_ALL": "C", "TZ": "UTC0"},  # so that it looks for no files of these, and has no secrets
            start_new_session=True,
            limit=_PIECE_BYTES,
        )
        try:
            yield Files(process)
        finally:
            with suppress(ProcessLookupError):
                process.kill()  # and with it the process within
            await process.wait()

    async def connect(self, container_id: str, port: int) -> socket.socket:
        """A connection to a port of the container's own loopback; without root there, of its address.

        Raises `NotRunning`, `EngineError`, `Unavailable`, and `OSError` when nobody answers there.
        """
        place = await self._place(container_id)
        try:
            held = self._held(place, container_id)
        except OutOfReach:
            place = await self._place(container_id)  # one that has ended meanwhile may have lost its address
            if place.ip is None:
                raise
            family = socket.AF_INET6 if ":" in place.ip else socket.AF_INET
            return await _connected(socket.socket(family), (place.ip, port))
        try:
            try:
                return await self._looped(held, _LOOPBACKS[0], port)
            except OSError as refusal:
                try:
                    return await self._looped(held, _LOOPBACKS[1], port)
                except OSError:
                    raise refusal from None
        finally:
            held.close()

    @staticmethod
    async def _looped(held: Held, where: tuple[int, str], port: int) -> socket.socket:
        made = await asyncio.to_thread(_socket_within, held.network, where[0])
        return await _connected(made, (where[1], port))

    def _held(self, place: _Place, container_id: str) -> Held:
        if self._wire.socket_path is None or os.geteuid() != 0:
            raise OutOfReach("the service is not root on the engine's host")
        try:
            return hold(place.pid, container_id)
        except NotHeld as error:
            raise OutOfReach(str(error)) from error

    async def _place(self, container_id: str) -> _Place:
        path = f"/containers/{safe_name(container_id)}/json"
        answer = await self._wire.call("GET", path, timeout_s=CALL_TIMEOUT_S)
        if answer.status not in (200, 404):
            raise refused("inspect", answer)
        if answer.status == 404 or not answer.body["State"]["Running"]:
            raise NotRunning(f"container {container_id} does not run")
        return _Place(
            pid=int(answer.body["State"]["Pid"]),
            home=answer.body["Config"].get("WorkingDir") or "/",
            ip=inspect.container(answer.body).ip,
        )


_Stream = TypeVar("_Stream")


def _all(stream: _Stream | None) -> _Stream:
    """A stream of a process that was started with pipes for all three."""
    if stream is None:
        raise TypeError("the process has no pipes")
    return stream


async def _connected(made: socket.socket, address: tuple[str, int]) -> socket.socket:
    made.setblocking(False)
    try:
        async with asyncio.timeout(CONNECT_S):
            await asyncio.get_running_loop().sock_connect(made, address)
    except BaseException:
        made.close()
        raise
    return made


def _socket_within(network: int, family: int) -> socket.socket:
    """A socket of another network namespace. A socket stays where it was made, whoever uses it.

    Only the calling thread goes there, and comes back. One that cannot must not be used again.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    ours = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(network, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
        try:
            return socket.socket(family, socket.SOCK_STREAM)
        finally:
            if libc.setns(ours, CLONE_NEWNET) != 0:
                os.abort()  # else some later call of this thread would speak from within the container
    finally:
        os.close(ours)

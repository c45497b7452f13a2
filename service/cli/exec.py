"""`jobyard job exec`: a command in a job's container, with this terminal if asked for.

The streams go over a websocket, as Kubernetes' clients send them: see `service/api/exec_socket.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import termios
import threading
import tty
from collections.abc import Iterator
from typing import Annotated, Any

import aiohttp
import typer

from service.cli.client import Client, segment
from service.cli.command import command
from service.cli.job import RunningJobId
from service.errors import Rejected, Unavailable

PROTOCOL = "v5.channel.k8s.io"
STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
_CHUNK_BYTES = 65536
_CHUNKS_HELD = 4
_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def register(app: typer.Typer) -> None:
    command(
        app,
        "exec",
        example="job exec -it 5d1f0c2e-… -- sh",
        context_settings={"ignore_unknown_options": True},
    )(run)


async def run(
    client: Client,
    job_id: RunningJobId,
    words: Annotated[list[str], typer.Argument(metavar="-- COMMAND", help="What to run in it.")],
    stdin: Annotated[bool, typer.Option("-i", "--stdin", help="Hand on the standard input.")] = False,
    terminal: Annotated[bool, typer.Option("-t", "--tty", help="Give it a terminal.")] = False,
) -> None:
    """Runs a command in a running job's container. The exit status is the command's."""
    params = [("command", word) for word in words]
    params += [("stdin", _said(stdin)), ("tty", _said(terminal))]
    ended_by: list[int] = []
    try:
        with _ends_by_signal(ended_by):
            async with client.socket(f"/job/{segment(job_id)}/exec", params, PROTOCOL) as socket:
                with _raw(stdin and terminal):
                    code = await _Session(socket, resizes=terminal).talk(stdin)
    except asyncio.CancelledError:
        if not ended_by:
            raise
        code = 128 + ended_by[0]
    raise typer.Exit(code)


def _said(value: bool) -> str:
    return "true" if value else "false"


@contextlib.contextmanager
def _ends_by_signal(ended_by: list[int]) -> Iterator[None]:
    """A signal that would end this process at once ends its work instead, so that what must be put back is:
    the terminal's mode first of all. `ended_by` then holds its number."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def end(number: int) -> None:
        ended_by.append(number)
        if task is not None:
            task.cancel()

    for number in _ENDING:
        loop.add_signal_handler(number, end, number)
    try:
        yield
    finally:
        for number in _ENDING:
            loop.remove_signal_handler(number)


@contextlib.contextmanager
def _raw(wanted: bool) -> Iterator[None]:
    """The terminal hands on every key while it lasts, and is as it was afterwards, whatever happens."""
    if not (wanted and sys.stdin.isatty()):
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setraw(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


class _Session:
    def __init__(self, socket: aiohttp.ClientWebSocketResponse, *, resizes: bool) -> None:
        self._socket = socket
        self._resizes = resizes
        self._sizes: set[asyncio.Task[None]] = set()

    async def talk(self, stdin: bool) -> int:
        """To the end of the command; its exit code."""
        loop = asyncio.get_running_loop()
        if self._resizes and sys.stdout.isatty():
            await self._resize()
            loop.add_signal_handler(signal.SIGWINCH, self._resized)
        feeding = asyncio.create_task(self._feed()) if stdin else None
        try:
            return await self._hear()
        finally:
            tasks = [task for task in (feeding, *self._sizes) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)  # the socket's end is told by `_hear`
            if self._resizes and sys.stdout.isatty():
                loop.remove_signal_handler(signal.SIGWINCH)

    async def _hear(self) -> int:
        async for message in self._socket:
            if message.type is not aiohttp.WSMsgType.BINARY:
                continue
            channel, data = message.data[0], message.data[1:]
            if channel in (STDOUT, STDERR):
                out = (sys.stdout if channel == STDOUT else sys.stderr).buffer
                out.write(data)
                out.flush()
            elif channel == ERROR:
                return _exit_code(json.loads(data))
        raise Unavailable(f"the service ended the command (code {self._socket.close_code})")

    async def _feed(self) -> None:
        """Our input to the command's, until its end."""
        loop, chunks = asyncio.get_running_loop(), asyncio.Queue[bytes]()
        room = threading.Semaphore(_CHUNKS_HELD)

        def read() -> None:
            """A thread of its own, as a file, a pipe and a terminal can all be read only so; it is left
            behind in its read, or waiting for room, when the command ends first."""
            data = b"-"
            with contextlib.suppress(RuntimeError):  # the loop is over
                while data:
                    data = _read_in()
                    room.acquire()
                    loop.call_soon_threadsafe(chunks.put_nowait, data)

        threading.Thread(target=read, daemon=True).start()
        while data := await chunks.get():
            room.release()
            await self._socket.send_bytes(bytes([STDIN]) + data)
        await self._socket.send_bytes(bytes([CLOSE, STDIN]))

    def _resized(self) -> None:
        task = asyncio.create_task(self._resize())
        self._sizes.add(task)
        task.add_done_callback(self._sizes.discard)

    async def _resize(self) -> None:
        columns, rows = os.get_terminal_size(sys.stdout.fileno())
        size = json.dumps({"Width": max(1, columns), "Height": max(1, rows)})
        await self._socket.send_bytes(bytes([RESIZE]) + size.encode())


def _read_in() -> bytes:
    """What comes next on the standard input; nothing at its end, or when there is none."""
    try:
        return os.read(0, _CHUNK_BYTES)
    except OSError:  # closed, or a terminal that has gone
        return b""


def _exit_code(status: Any) -> int:
    """Of Kubernetes' status. Raises `Rejected` for what was no command's end."""
    if status.get("status") == "Success":
        return 0
    for cause in status.get("details", {}).get("causes", []):
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    raise Rejected(str(status.get("message", "the command could not be run")))

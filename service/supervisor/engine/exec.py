"""A command run beside a container's own process: its streams, its terminal, its exit code.

aiodocker upgrades the connection and takes it apart; what it lacks is here: ids fit for URLs, errors told
apart, an end of the input, and an end of the command when whoever asked for it is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import aiodocker
import aiohttp
import structlog
from aiodocker.execs import Exec
from aiodocker.stream import Message, Stream

from service.errors import EngineError, NoSuchContainer, NotRunning, Unavailable
from service.supervisor.engine.protocol import JOB_USER
from service.supervisor.engine.session import end_session, signal_group
from service.supervisor.engine.wire import Wire, refused, safe_name

_log = structlog.get_logger()

CALL_TIMEOUT_S = 30.0
_LOOKS, _LOOK_EVERY_S = 40, 0.05
#: The engine records a command's end a moment after its streams have ended.
RECORDED_S = 10.0
#: A command that writes nothing for so long is looked at, first and at the longest.
_SILENT_S, _MOST_SILENT_S = 1.0, 10.0
_LOST = (aiohttp.ClientError, OSError, EOFError)
#: What ends the input of a terminal's reader, at the beginning of a line; elsewhere it hands on the line.
_END_OF_INPUT = b"\x04"


@dataclass(frozen=True, slots=True)
class Output:
    """What a command wrote: to its standard output (1) or error (2). With a terminal all of it is 1."""

    stream: int
    data: bytes


class RunningExec:
    """A command that has been started. Methods raise `Unavailable` when the engine's line breaks."""

    def __init__(self, wire: Wire, exec_id: str, stream: Stream, *, tty: bool) -> None:
        self.id = exec_id
        self._wire = wire
        self._stream = stream
        self._tty = tty
        self._wrote = False
        self._within_a_line = False
        #: Whether the next piece of output is waited for, and whether it was all the while.
        self._awaited = False
        self._silent = False
        self._over = False

    async def output(self) -> AsyncIterator[Output]:
        """Everything it writes, until it has closed both streams. Reads no faster than it is asked to."""
        watching = asyncio.create_task(self._watch())
        try:
            with _told("exec output"):
                while (message := await self._read()) is not None:
                    yield Output(message.stream, message.data)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _read(self) -> Message | None:
        self._awaited = True
        try:
            message = await self._stream.read_out()
        except _LOST:
            if self._over:
                return None
            raise
        self._awaited = self._silent = False  # who takes it slowly may not have all of it yet
        return message

    async def _watch(self) -> None:
        """Ends the line when the command has ended with input that it did not read: the engine (20.10) does
        so only after a minute and a half. A silent one is looked at, less and less often."""
        pause_s = _SILENT_S
        while True:
            self._silent = self._awaited
            await asyncio.sleep(pause_s)
            if not (self._silent and self._wrote):
                pause_s = _SILENT_S
            elif self._over:
                self._abort()
                return
            else:
                self._over = not (await self._inspected())["Running"]
                pause_s = _SILENT_S if self._over else min(2 * pause_s, _MOST_SILENT_S)

    async def write(self, data: bytes) -> None:
        """To its standard input; waits while it does not read."""
        self._wrote = True
        self._within_a_line = not data.endswith((b"\n", b"\r"))
        if self._transport() is None:  # aiodocker would assert it
            raise Unavailable("exec input: the line to the engine has ended")
        with _told("exec input"):
            await self._stream.write_in(data)

    async def end_input(self) -> None:
        """Its standard input is at its end.

        A terminal has no end but the key for it; were its line half closed, the engine would close the
        output as well, and all that the command still writes would be lost.
        """
        if self._tty:
            with suppress(Unavailable):  # it has ended, or the line has, which ends the output too
                await self.write(_END_OF_INPUT * (2 if self._within_a_line else 1))
            return
        transport = self._transport()
        if transport is not None and transport.can_write_eof():
            transport.write_eof()

    def _abort(self) -> None:
        """Drop the line with the input that nobody reads any more."""
        transport = self._transport()
        if transport is not None:
            transport.abort()

    def _transport(self) -> Any:
        response = self._stream._resp
        connection = response.connection if response is not None else None
        return connection.transport if connection is not None else None

    async def resize(self, width: int, height: int) -> None:
        """The size of its terminal, in characters. Nothing happens when it has ended."""
        params = {"w": str(width), "h": str(height)}
        path = f"/exec/{safe_name(self.id)}/resize"
        answer = await self._wire.call("POST", path, params=params, timeout_s=CALL_TIMEOUT_S)
        if answer.status >= 500:
            _log.debug("resize refused", exec=self.id[:12], error=answer.message)

    async def exit_code(self) -> int:
        """After its output has ended. 126 and 127: it could not be run, or was not found.

        Raises `NoSuchContainer` when it is gone with its container, and `Unavailable` when the engine does
        not say how it ended: no code is never taken for 0.
        """
        deadline = asyncio.get_running_loop().time() + RECORDED_S
        while asyncio.get_running_loop().time() < deadline:
            found = await self._inspected()
            if not found["Running"] and found["ExitCode"] is not None:
                return int(found["ExitCode"])
            await asyncio.sleep(_LOOK_EVERY_S)
        raise Unavailable("the engine does not say how the command ended")

    async def _inspected(self) -> Any:
        path = f"/exec/{safe_name(self.id)}/json"
        answer = await self._wire.call("GET", path, timeout_s=CALL_TIMEOUT_S)
        if answer.status == 404:
            raise NoSuchContainer("the command is gone with its container")
        if answer.status != 200:
            raise refused("inspect an exec", answer)
        return answer.body

    async def kill(self) -> bool:
        """End it if it still runs, and what it began; False when that cannot be done from here.

        The engine has no call for it, but tells the process's pid on its host. A command that has just been
        asked for has none yet: it is waited for. Raises `NoSuchContainer` when nothing is left to be ended.
        """
        for _ in range(_LOOKS):
            found = await self._inspected()
            if not found["Running"]:
                return True
            if pid := int(found.get("Pid") or 0):
                if self._wire.socket_path is None:
                    return False
                if await asyncio.to_thread(end_session, pid, str(found["ContainerID"])):
                    return True
                # It may have ended by itself in between, which the engine hears a moment later.
            await asyncio.sleep(_LOOK_EVERY_S)
        return False

    async def signal(self, number: int) -> bool:
        """Send a signal to it and what it has started in its group; False when that cannot be done.

        What it says may be here before the engine has noted that it runs, and as which process: that is
        waited for.
        """
        if self._wire.socket_path is None:
            return False
        for _ in range(_LOOKS):
            found = await self._inspected()
            if not found["Running"] and found["ExitCode"] is not None:
                return False
            pid = int(found.get("Pid") or 0)
            if pid and await asyncio.to_thread(signal_group, pid, str(found["ContainerID"]), number):
                return True
            await asyncio.sleep(_LOOK_EVERY_S)
        return False


class Execs:
    """Starts commands in containers of one engine. Make it within a running event loop."""

    def __init__(self, host: str | None = None) -> None:
        self._wire = Wire(host)

    @asynccontextmanager
    async def open(
        self,
        container_id: str,
        command: Sequence[str],
        *,
        stdin: bool = False,
        stdout: bool = True,
        stderr: bool = True,
        tty: bool = False,
        env: Sequence[tuple[str, str]] = (),
    ) -> AsyncIterator[RunningExec]:
        """Run a command as the job's user while the context lasts; one that still runs then is killed.

        Raises `NoSuchContainer` (`NotRunning` when it has ended), `EngineError` and `Unavailable`.
        """
        body = {
            "AttachStdin": stdin,
            "AttachStdout": stdout,
            "AttachStderr": stderr,
            "Tty": tty,
            "Cmd": list(command),
            "Env": [f"{name}={value}" for name, value in env],
            "User": JOB_USER,
            "Privileged": False,
        }
        path = f"/containers/{safe_name(container_id)}/exec"
        answer = await self._wire.call("POST", path, body=body, timeout_s=CALL_TIMEOUT_S)
        if answer.status == 404:
            raise NoSuchContainer(f"no container {container_id}")
        if answer.status == 409:
            raise NotRunning(f"container {container_id} does not run")
        if answer.status != 201:
            raise refused("exec", answer)
        exec_id = str(answer.body["Id"])
        stream = Exec(self._wire.docker, safe_name(exec_id), tty).start()
        running = RunningExec(self._wire, exec_id, stream, tty=tty)
        try:
            with _told("exec"):
                await stream.__aenter__()
            yield running
        finally:
            await _let_go(running, stream)

    async def close(self) -> None:
        await self._wire.close()


async def _let_go(running: RunningExec, stream: Stream) -> None:
    """Close the line, and see that nothing is left at its other end."""
    with suppress(*_LOST, AssertionError):  # aiodocker asserts that the line is still there
        await stream.close()
    try:
        killed = await running.kill()
    except NoSuchContainer:
        return  # it ended with its container
    except (Unavailable, EngineError) as error:
        _log.warning("exec left behind", exec=running.id[:12], error=error.message)
        return
    if not killed:
        _log.warning("exec left behind", exec=running.id[:12], why="its process is out of reach from here")


class _told:
    """Errors of aiodocker and of the line, as our own."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: Any, error: BaseException | None, _trace: Any) -> None:
        if isinstance(error, aiodocker.DockerError) and error.status in (404, 409):
            raise NotRunning(f"{self._what}: its container does not run") from error
        if isinstance(error, aiodocker.DockerError):
            raise EngineError(f"{self._what}: the Docker Engine refused: {error.message}") from error
        if isinstance(error, _LOST):
            raise Unavailable(
                f"{self._what}: the connection to the engine failed: {type(error).__name__}"
            ) from error

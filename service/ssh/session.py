"""A channel that runs something in the container: a login shell, one line, or SFTP."""

from __future__ import annotations

import asyncio
import signal
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Protocol

import asyncssh
import structlog

from service.domain.events import Session as Kind
from service.errors import JobyardError, OutOfReach
from service.ssh import words
from service.ssh.guests import Guest
from service.ssh.ports import Far, Running, SshParts
from service.ssh.talk import EXTENDED_DATA_STDERR, Line, Talk, ended

#: As `ssh` itself ends when it is not the command's fault.
FAILED = 255
#: Those that RFC 4254 names, but for the ones that only tell of faults.
_SIGNALS = {
    name: signal.Signals[f"SIG{name}"]
    for name in ("ALRM", "HUP", "INT", "KILL", "QUIT", "TERM", "USR1", "USR2")
}
_MOST_SIGNALS = 16
_END_OF_INPUT = b"\x04"

_log = structlog.get_logger()


class Host(Line, Protocol):
    """The connection, as its sessions see it."""

    @property
    def parts(self) -> SshParts: ...

    @property
    def guest(self) -> Guest: ...

    @property
    def peer(self) -> str: ...

    async def record(self, kind: Kind, words: list[str], *, tty: bool) -> None:
        """Put into the ledger what is about to be done. Raises what refused it."""

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Carry out some work in the background, to its end."""

    def session_over(self) -> None:
        """The channel of a session is closed, and what it began in the container has ended."""


class Session(Talk, asyncssh.SSHServerSession[bytes]):
    """What is asked for is carried out by `run`."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._host = host
        self._kind: Kind = "shell"
        self._line_asked: str | None = None
        self._terminal: words.Terminal | None = None
        self._sent = words.Locale()
        self._size: tuple[int, int] | None = None
        self._signals: deque[int] = deque(maxlen=_MOST_SIGNALS)
        self._told = asyncio.Event()
        self._runs = False

    # -- what asyncssh calls ------------------------------------------------------------------------

    def connection_made(self, chan: Any) -> None:
        super().connection_made(chan)
        chan._env = self._sent  # asyncssh keeps whatever comes, without bound

    def pty_requested(self, term_type: str, term_size: Any, _term_modes: Any) -> bool:
        self._terminal = words.Terminal(term_type, term_size[0], term_size[1])
        return True

    def shell_requested(self) -> bool:
        return True

    def exec_requested(self, command: str) -> bool:
        self._kind, self._line_asked = "command", command
        return "\0" not in command and len(command.encode()) <= words.MOST_LINE_BYTES

    def subsystem_requested(self, subsystem: str) -> bool:
        self._kind = "sftp"
        return subsystem == "sftp"

    def session_started(self) -> None:
        self._runs = True
        self._host.begin(self.run())

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self._runs:
            self._host.session_over()

    def terminal_size_changed(self, width: int, height: int, _pixwidth: int, _pixheight: int) -> None:
        if self._terminal is not None and words.is_size(width, height):
            self._size = width, height
            self._told.set()

    def signal_received(self, signal: str) -> None:
        if signal in _SIGNALS:
            self._signals.append(_SIGNALS[signal])
            self._told.set()

    # -- what is done -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Into the ledger, then into the container, then how it ended to the client and into the log."""
        loop = asyncio.get_running_loop()
        began, said = loop.time(), ""
        code: int | None = None
        try:
            asked = [] if self._line_asked is None else [self._line_asked]
            await self._host.record(self._kind, asked, tty=self._terminal is not None)
            async with self._opened() as running:
                code = await self._talk(running)
            if code is not None:
                self._chan.exit(code)
        except JobyardError as error:
            said = error.message
            self._excuse(said)
        finally:
            if code is None and not self.gone.is_set():
                self._chan.close()  # whatever happened, nobody is left waiting
            _log.info(
                "ssh session",
                **self._names(),
                kind=self._kind,
                tty=self._terminal is not None,
                code=code,
                **({"error": said} if said else {}),
                cut=self.gone.is_set() and code is None,
                sent_bytes=self.sent_bytes,
                received_bytes=self.received_bytes,
                ms=round((loop.time() - began) * 1000, 2),
            )
            self._runs = False
            if self.gone.is_set():
                self._host.session_over()

    def _names(self) -> dict[str, Any]:
        guest = self._host.guest
        return {"job": str(guest.job), "run": guest.run, "key": guest.fingerprint, "peer": self._host.peer}

    def _excuse(self, why: str) -> None:
        if not self.gone.is_set():
            self._chan.write(f"jobyard: {why}\r\n".encode(), EXTENDED_DATA_STDERR)
            self._chan.exit(FAILED)

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Running]:
        parts, container_id = self._host.parts, self._host.guest.container_id
        command = words.shell(self._line_asked, self._terminal)
        if self._kind == "sftp":
            command, self._terminal = words.SFTP, None
            try:
                async with parts.inside.files(container_id) as running:
                    yield running
                return
            except OutOfReach as error:
                _log.warning("sftp by the image's own server", **self._names(), why=error.message)
        env = words.environment(self._sent, self._terminal)
        tty = self._terminal is not None
        async with parts.execs.open(container_id, command, stdin=True, tty=tty, env=env) as running:
            yield running

    async def _talk(self, running: Running) -> int | None:
        """The exit code; None when the client left before."""
        out = asyncio.create_task(self.hand_out(running))
        rest = [asyncio.create_task(each) for each in (self.hand_in(running), self._tell(running))]
        gone = asyncio.create_task(self.gone.wait())
        try:
            await asyncio.wait({out, gone}, return_when=asyncio.FIRST_COMPLETED)
            if self.gone.is_set():
                return None
            out.result()
            return await running.exit_code()
        finally:
            await ended(out, gone, *rest)

    async def finish(self, far: Far) -> None:
        """With a terminal the end of the input is what a person would type."""
        if self._terminal is None:
            await far.end_input()
        else:
            await far.write(_END_OF_INPUT)

    async def _tell(self, running: Running) -> None:
        """Sizes of the terminal, the last one only, and signals."""
        while True:
            await self._told.wait()
            self._told.clear()
            size, self._size = self._size, None
            if size is not None:
                await running.resize(*size)
            while self._signals:
                await running.signal(self._signals.popleft())

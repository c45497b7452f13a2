"""Who may act on an engine: a lock of this host, and the ledger's lease with its epoch."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import platform
import tempfile
from pathlib import Path
from uuid import UUID

import structlog

from service.errors import Misconfigured, Unavailable
from service.ledger.leases import Lease
from service.supervisor.ports import SupervisorLedger

_log = structlog.get_logger()

WITHOUT_LOCK = "without-lock:"


def holder_name() -> str:
    """`<host>/<process>`: the host part tells whether the host's lock says anything about the holder."""
    try:
        host = Path("/etc/machine-id").read_text().strip() or platform.node()
    except OSError:
        host = platform.node()
    return f"{host}/{os.getpid()}-{os.urandom(4).hex()}"


class HostLock:
    """A file lock that the kernel lets go of when its process dies, however it dies."""

    def __init__(self, engine: str, ledger: UUID) -> None:
        name = hashlib.sha256(f"{engine} {ledger}".encode()).hexdigest()[:16]
        self._path = _lock_dir() / f"engine-{name}.lock"
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        return self._descriptor is not None

    def take(self) -> bool:
        """True when it is ours, now or already."""
        if self._descriptor is not None:
            return True
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _lock_dir() -> Path:
    """A directory that only this user can write, in the system's place for temporary files."""
    path = Path(tempfile.gettempdir()) / f"jobyard-locks-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077 or not path.is_dir() or path.is_symlink():
        raise Misconfigured(f"{path} must be a directory of user {os.getuid()} with mode 0700")
    return path


async def take_lease(
    ledger: SupervisorLedger, engine: str, lock: HostLock, holder: str, ttl_s: float, pause_s: float
) -> Lease:
    """Wait for the engine's lease. Of one host's processes the one with the lock goes first.

    A lease that is over may be taken without the lock, from a process of this host that hangs and so
    keeps it. Such a holder says so in its name: that the lock is free is then no proof that it is gone.
    """
    told = False
    while True:
        try:
            locked = lock.take()
            name = holder if locked else f"{WITHOUT_LOCK}{holder}"
            lease = await ledger.take_lease(engine, name, ttl_s, locked=locked)
        except Unavailable as error:
            _log.warning("lease cannot be asked for", engine=engine, error=error.message)
            lease = None
        if lease is not None:
            return lease
        if not told:
            _log.info("another supervisor holds the engine; waiting", engine=engine)
            told = True
        await asyncio.sleep(pause_s)

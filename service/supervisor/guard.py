"""Who may act on an engine: a lock of this host, and the ledger's lease with its epoch."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import UUID

import msgspec
import structlog

from service.errors import Misconfigured, Unavailable
from service.ledger.leases import Database, Lease
from service.supervisor.holders import is_gone
from service.supervisor.ports import SupervisorLedger

_log = structlog.get_logger()


class HostLock:
    """A file lock that the kernel lets go of when its process dies, however it dies. The file keeps the
    database of the ledger whose supervisor had it last: containers are told by the ledger's id alone, which a
    copy of the database and a restored backup have as well."""

    def __init__(self, engine: str, ledger: UUID, database: Database) -> None:
        name = hashlib.sha256(f"{engine} {ledger}".encode()).hexdigest()[:16]
        self._path = _lock_dir() / f"engine-{name}.lock"
        self._database = database
        self._descriptor: int | None = None

    @property
    def path(self) -> Path:
        return self._path

    @property
    def database(self) -> Database:
        """Our own."""
        return self._database

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

    def other(self) -> Database | None:
        """The database in the file, unless it is ours. One whose files were moved since is the same."""
        try:
            said = msgspec.json.decode(self._path.read_bytes().split(b"\n", 1)[0], type=Database)
        except (OSError, msgspec.MsgspecError):
            return None  # nobody has signed it yet
        same_place = self.held or "" in (said.place, self._database.place) or said == self._database
        return None if said.id == self._database.id and same_place else said

    def sign(self) -> None:
        """Say in the file, whose lock is ours, that our database has the engine."""
        if self._descriptor is None:
            raise LookupError("the lock is not ours")
        text = msgspec.json.encode(self._database) + b"\n"
        os.pwrite(self._descriptor, text, 0)  # at once, and what may be left behind it is not read
        os.ftruncate(self._descriptor, len(text))

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _lock_dir() -> Path:
    """A directory that only this user can write, where nothing in the environment moves it: two services of
    one host and user have the same. Of root it is in /run, where nobody else can make one first."""
    places = _places()
    place = next((each for each in places if os.access(each, os.W_OK | os.X_OK)), None)
    if place is None:
        raise Misconfigured(
            f"the lock of the engine needs one of {', '.join(map(str, places))}, where user {os.getuid()} can"
            " write none"
        )
    path = place / f"jobyard-locks-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077 or not path.is_dir() or path.is_symlink():
        raise Misconfigured(f"{path} must be a directory of user {os.getuid()} with mode 0700")
    return path


def _places() -> tuple[Path, ...]:
    """The first that we can write in. /run/user/<uid> is none of them: it comes and goes with the sessions of
    its user, and a lock in it would be another one."""
    return (*((Path("/run"),) if os.getuid() == 0 else ()), Path("/run/lock"), Path("/tmp"))  # noqa: S108


async def take_lease(
    ledger: SupervisorLedger,
    engine: str,
    lock: HostLock,
    holder: str,
    ttl_s: float,
    pause_s: float,
    in_use: Callable[[], Awaitable[bool]],
) -> Lease:
    """Wait for the engine's lease. Of one host's processes the one with the lock goes first.

    A lease that is not over is taken with the lock in hand alone, and only from a holder that is gone as the
    kernel shows. That the lock is free is no proof: whoever has another /run, as in a container, has another
    lock, and two that took their own's word for it would take the engine from each other for ever.

    `in_use`: whether the engine has containers of this ledger. While another database of this ledger has the
    engine, or had it last and its containers are there, nothing is taken: its runs are unknown here, and
    their containers would be put away.

    One that is over may be taken without the lock, from a process of this host that hangs and so keeps it.
    """
    told = ""

    def gone(before: str) -> bool:
        return lock.held and (before == holder or is_gone(before))  # what was ours is: its epoch has ended

    while True:
        why = "another supervisor holds the engine; waiting"
        try:
            locked = lock.take()
            refused = await _refused(lock, in_use)
            if refused:
                lock.release()
                why, lease = refused, None
            else:
                if locked:
                    lock.sign()
                lease = await ledger.take_lease(engine, holder, ttl_s, gone=gone)
        except Unavailable as error:
            _log.warning("lease cannot be asked for", engine=engine, error=error.message)
            lease = None
        if lease is not None:
            return lease
        if told != why:
            _log.info(why, engine=engine)
            told = why
        await asyncio.sleep(pause_s)


async def _refused(lock: HostLock, in_use: Callable[[], Awaitable[bool]]) -> str:
    """Why the engine must be left to another database of this ledger; empty if it need not."""
    other = lock.other()
    if other is None or (lock.held and not await in_use()):
        return ""
    said = f"the engine is of another database of this ledger: {_named(other)}, not {_named(lock.database)}"
    if not lock.held:
        return f"{said}. Stop the service of the other one, or give each an engine of its own; waiting"
    return (
        f"{said}. If that one is gone for good, and ours is restored from its backup, remove {lock.path}:"
        " containers of runs that ours does not know are removed then; waiting"
    )


def _named(database: Database) -> str:
    return f"{database.id} in {database.place}" if database.place else database.id

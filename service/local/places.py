"""Folders for sockets and for parts that run as another user."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TextIO

from service.errors import Misconfigured
from service.local.processes import User

_LOOK_EVERY_S = 1.0
_SOCKET_PATH_LIMIT_BYTES = 107  # sizeof(sockaddr_un.sun_path) - 1 on Linux


#: Of a folder, whatever its name: its device and its inode there.
Identity = tuple[int, int]


def make_state(state: Path) -> Identity | None:
    """Makes the state directory if it is not there. Which one it is; None if it is gone already."""
    try:
        state.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Misconfigured(f"the state directory {state} cannot be made: {error.strerror}") from error
    return _identity(state)


async def until_gone(state: Path, made: Identity | None) -> None:
    """Returns once the state directory is no longer the one that was `made`: it was moved or removed, or the
    disk on which it lies is not mounted any more."""
    while made is not None and _identity(state) == made:  # noqa: ASYNC110 (no event tells of it)
        await asyncio.sleep(_LOOK_EVERY_S)


def _identity(folder: Path) -> Identity | None:
    try:
        found = folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


@contextmanager
def written_in(folder: Path) -> Iterator[None]:
    """What cannot be written there, as on a full disk, is told of the folder. Raises `Misconfigured`."""
    try:
        yield
    except OSError as error:
        raise Misconfigured(f"nothing can be written in {folder}: {error.strerror}") from error


def open_in_state(file: Path, mode: Literal["a", "a+", "w"]) -> TextIO:
    """A file of the state directory, opened to write."""
    with written_in(file.parent):
        return file.open(mode)


def write_whole(path: Path, text: str, mode: int = 0o644) -> None:
    """Writes a file, whole or not at all: also where we are killed meanwhile."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def digest(path: Path) -> str:
    """Eight letters that stand for `path` in names that must be short."""
    return hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:8]


def for_sockets(wanted: Path, deepest: str) -> Path:
    """`wanted`, or a short folder that stands for it if a socket at wanted/deepest had too long a path."""
    if len(os.fsencode(wanted / deepest)) <= _SOCKET_PATH_LIMIT_BYTES:
        return wanted
    base = Path("/run") if os.geteuid() == 0 else Path(tempfile.gettempdir())
    return base / f"jobyard-{os.geteuid()}-{digest(wanted)}"


def make_private(folder: Path, owner: User | None = None) -> None:
    """Makes `folder` (and its parents), open to nobody but us, or but `owner`; refuses somebody else's."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    allowed = {os.geteuid(), owner.uid if owner else os.geteuid()}
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in allowed:
        raise Misconfigured(f"{folder} belongs to somebody else; remove it or choose another state directory")
    if owner is not None:
        os.chown(folder, owner.uid, owner.gid)
    folder.chmod(0o700)


def can_reach(user: User, path: Path, *, flag: str = "-x") -> bool:
    """Whether `user` passes `test FLAG path`. Asked of the kernel, as mode bits do not tell of ACLs."""
    asked = subprocess.run(
        ["test", flag, str(path)], user=user.uid, group=user.gid, extra_groups=[], cwd="/", check=False
    )
    return asked.returncode == 0

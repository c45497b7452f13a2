"""Opening names inside a volume that a hostile job may be changing at this moment, and making it last.

Every open resolves beneath a directory descriptor with openat2(2), refusing symbolic links anywhere in
the path (O_NOFOLLOW guards the last name only), "..", other mounts and magic links. There is no fallback:
a kernel without openat2 (before Linux 5.6) is Misconfigured.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from service.errors import Misconfigured
from service.supervisor.data.keys import ancestors

OWNER = 42420
"""User and group of every job's process."""

SWAPPED = frozenset({errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.EXDEV})
"""What opening says of a name that the job swapped. Anything else is the disk's fault, or the node's (it has
no descriptors left), and must not pass for a file that is not there: a push would lose it."""

_SYNC_FILE_RANGE_WRITE = 2
_SYS_OPENAT2 = 437  # the same number on every architecture
_NO_XDEV, _NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 0x01, 0x02, 0x04, 0x08
_RESOLVE = _BENEATH | _NO_SYMLINKS | _NO_XDEV | _NO_MAGICLINKS
_ALWAYS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_RACES = 16  # EAGAIN: the kernel could not rule out a concurrent rename; trying again is its advice


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def openat2(dir_fd: int, path: str, flags: int) -> int:
    """Open `path` beneath `dir_fd`. Raises OSError (ELOOP, EXDEV, ENOENT, …) or Misconfigured."""
    how = _OpenHow(flags | _ALWAYS, 0, _RESOLVE)
    name = os.fsencode(path)
    for _ in range(_RACES):
        opened = _libc().syscall(_SYS_OPENAT2, dir_fd, name, ctypes.byref(how), ctypes.sizeof(how))
        if opened >= 0:
            return int(opened)
        code = ctypes.get_errno()
        if code == errno.ENOSYS:
            raise Misconfigured("this kernel has no openat2: job volumes need Linux 5.6 or newer")
        if code not in (errno.EAGAIN, errno.EINTR):
            break
    raise OSError(code, os.strerror(code), path)


def settle(fd: int) -> None:
    """Wait until all that was written to the file system of `fd` would outlive a power cut. Raises OSError.

    One syncfs(2), whatever the number of files: 2,000 small ones cost 0.1 s so, and 4 s by an fsync each.
    """
    if _libc().syncfs(fd):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def begin_to_settle(fd: int, offset: int, length: int) -> None:
    """Let the disk begin to write these bytes of a file, and do not wait for it (sync_file_range(2)).

    So a large file is on the disk soon after its last byte came, and `settle` has little to wait for. Only a
    hint: whether bytes could be written is what `settle` says.
    """
    _libc().sync_file_range(fd, ctypes.c_int64(offset), ctypes.c_int64(length), _SYNC_FILE_RANGE_WRITE)


@contextmanager
def opened_root(root: Path) -> Iterator[int]:
    """A descriptor of a volume's directory, whose own path is ours and trusted. Raises OSError."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def opened_folder(root_fd: int, path: str) -> Iterator[int]:
    """A descriptor of the folder `path` ("" for the root) beneath `root_fd`. Raises OSError."""
    fd = openat2(root_fd, path or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def opened_file(root_fd: int, path: str) -> Iterator[int]:
    """A descriptor of the regular file `path` for reading; ValueError says why it is none.

    The checks are on the open descriptor, so that no swap of names can come between.
    """
    fd = openat2(root_fd, path, os.O_RDONLY)
    try:
        if why := not_plain(os.fstat(fd)):
            raise ValueError(why)
        yield fd
    finally:
        os.close(fd)


def is_the_jobs(error: OSError) -> bool:
    """Whether the job itself made that something cannot be opened: it swapped it, or took away the right to
    read it, which root does not need."""
    return error.errno in SWAPPED or (error.errno == errno.EACCES and os.geteuid() != 0)


def not_plain(found: os.stat_result) -> str | None:
    """Why something is not a plain file that may be pushed, or None. Folders count as None too."""
    kind = stat.S_IFMT(found.st_mode)
    if kind == stat.S_IFREG:
        return "hard link" if found.st_nlink > 1 else None
    return _KINDS.get(kind, "not a regular file")


_KINDS: dict[int, str | None] = {
    stat.S_IFDIR: None,
    stat.S_IFLNK: "symbolic link",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFBLK: "device",
    stat.S_IFCHR: "device",
}


def own(fd: int, mode: int) -> None:
    """Give an open file or folder to the job. Without root it stays the service's, readable by all."""
    if os.geteuid() == 0:
        os.fchown(fd, OWNER, OWNER)
    os.fchmod(fd, mode)


@contextmanager
def made_folder(root_fd: int, path: str) -> Iterator[int]:
    """A descriptor of the folder `path`, made with all folders above it where missing. Raises OSError."""
    try:
        fd = openat2(root_fd, path or ".", os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        for folder in (*ancestors(path), path):
            _make(root_fd, folder)
        fd = openat2(root_fd, path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def _make(root_fd: int, path: str) -> None:
    above, _, name = path.rpartition("/")
    with opened_folder(root_fd, above) as parent:
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        except FileExistsError:
            return
        made = openat2(parent, name, os.O_RDONLY | os.O_DIRECTORY)
        try:
            own(made, 0o755)
        finally:
            os.close(made)

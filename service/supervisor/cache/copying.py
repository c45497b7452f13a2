"""A generation as a volume of a job's own: copied here, so that no bytes come from the source.

Real copies, sharing blocks where the file system can: a job that writes changes nobody's file but its own.
The volume gets the manifest that a pull would have left, by which a push knows what the job did not touch.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from service.domain.shown import shown
from service.errors import DataError
from service.supervisor.cache.entry import Generation
from service.supervisor.cache.record import Held
from service.supervisor.data import disk
from service.supervisor.data.volume import beneath, manifest
from service.supervisor.data.volume.layout import fresh_partial
from service.supervisor.data.volume.manifest import ARCHIVE

_FICLONE = 0x40049409
_PIECE_BYTES = 64 * 1024**2
_CANNOT = frozenset({errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTTY, errno.EBADF})


async def copy(generation: Generation, root: Path) -> None:
    """Make the volume `root`, which no job has seen yet, hold what the generation holds. Raises DataError.

    It can be called again after a kill, and then copies what is missing.
    """
    with disk.faults("volume"):
        partial = await disk.run(fresh_partial, root)
        await disk.in_slices(_steps(generation, root, partial))
        await disk.run(shutil.rmtree, partial)


def _steps(generation: Generation, root: Path, partial: Path) -> Iterator[None]:
    record = generation.record
    book = manifest.load(root)
    known = book.place(*record.place).files
    with (
        beneath.opened_root(generation.files) as from_fd,
        beneath.opened_root(root) as root_fd,
        beneath.opened_root(partial) as partial_fd,
    ):
        yield from _folders(generation.files, root_fd)
        for path, held in record.files.items():
            if not _is_there(root_fd, path, known.get(path), held):
                yield from _file(from_fd, path, held, partial_fd)
                known[path] = _placed(partial_fd, root_fd, path, held)
            yield
        for gone in known.keys() - record.files.keys():
            del known[gone]
        if record.archive is not None:
            known[ARCHIVE] = manifest.Entry(record.archive.size, record.archive.etag, 0, 0, 0)
        beneath.settle(root_fd)
    manifest.save(root, book)


def _folders(files: Path, root_fd: int) -> Iterator[None]:
    for above, _, _ in os.walk(files):
        here = os.path.relpath(above, files)
        if here != ".":
            with beneath.made_folder(root_fd, here):
                pass
        yield


def _is_there(root_fd: int, path: str, before: manifest.Entry | None, held: Held) -> bool:
    if before is None or (before.size, before.etag) != (held.size, held.etag):
        return False
    try:
        with beneath.opened_file(root_fd, path) as fd:
            return before.describes(os.fstat(fd))
    except (OSError, ValueError):
        return False


_NAME = "copy"


def _file(from_fd: int, path: str, held: Held, partial_fd: int) -> Iterator[None]:
    """The bytes, under a name that no job can see."""
    source = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=from_fd)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        target = os.open(_NAME, flags, 0o600, dir_fd=partial_fd)
        try:
            yield from _bytes(source, target)
            found = os.fstat(source)
            if not held.describes(found) or os.fstat(target).st_size != held.size:
                raise DataError(f"{shown(path)} was damaged in the cache")
            beneath.own(target, 0o755 if found.st_mode & 0o100 else 0o644)
            os.utime(target, ns=(held.mtime_ns, held.mtime_ns))
        finally:
            os.close(target)
    finally:
        os.close(source)


def _bytes(source: int, target: int) -> Iterator[None]:
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        while _piece(source, target):
            yield


def _piece(source: int, target: int) -> int:
    """Bytes copied; 0 at the end."""
    try:
        return os.copy_file_range(source, target, _PIECE_BYTES)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        return os.sendfile(target, source, None, _PIECE_BYTES)  # from where it is


def _placed(partial_fd: int, root_fd: int, path: str, held: Held) -> manifest.Entry:
    folder, _, name = path.rpartition("/")
    with beneath.made_folder(root_fd, folder) as parent:
        os.rename(_NAME, name, src_dir_fd=partial_fd, dst_dir_fd=parent)
        return manifest.entry(os.stat(name, dir_fd=parent, follow_symlinks=False), held.etag)

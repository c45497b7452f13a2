"""One file of a pull: is it there already, and if not, how it comes into the volume."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Generator, Iterator, Sequence
from datetime import UTC, datetime
from typing import TypeAlias

from service.domain.shown import shown
from service.errors import Unavailable
from service.supervisor.data.model import CHUNK_BYTES, ObjectInfo
from service.supervisor.data.volume import beneath, manifest

PLAIN_MD5 = re.compile(r"[0-9a-f]{32}")
"""An ETag that is the MD5 of the object. Others (of multipart or encrypted objects) say nothing to us."""

_STEP_BYTES = 1 << 20

Verdict: TypeAlias = manifest.Entry | str | None

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BLOCKED = frozenset(
    {errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EXDEV, errno.EEXIST, errno.ENOTEMPTY, errno.ENOENT}
)


class InTheWay(Exception):
    """The job put something where the file should go."""


class Incoming:
    """A file on its way: written under a name that no job can see, then renamed into the volume. Blocking."""

    def __init__(self, partial_fd: int, temp: str, info: ObjectInfo, mode: int = 0o644) -> None:
        self._mode = mode
        self._partial_fd = partial_fd
        self._temp = temp
        self._info = info
        self._fd = -1
        self._md5 = hashlib.md5(usedforsecurity=False) if PLAIN_MD5.fullmatch(info.etag) else None

    def open(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(self._temp, flags, 0o600, dir_fd=self._partial_fd)

    def no_hash(self) -> None:
        """The ETag is none of what comes: it is known by its size alone."""
        self._md5 = None

    def append(self, chunks: Sequence[bytes]) -> None:
        for chunk in chunks:
            if self._md5:
                self._md5.update(chunk)
            view = memoryview(chunk)
            while view:
                view = view[os.write(self._fd, view) :]

    def write(self, offset: int, chunks: Sequence[bytes]) -> None:
        """Bytes of a stretch that comes beside others. Once all have come, `hashed` has to go over them."""
        began = offset
        for chunk in chunks:
            view = memoryview(chunk)
            while view:
                written = os.pwrite(self._fd, view, offset)
                view, offset = view[written:], offset + written
        beneath.begin_to_settle(self._fd, began, offset - began)

    def hashed(self) -> Iterator[None]:
        """Hash what was written in stretches, a step at a time."""
        offset = 0
        while self._md5 and (piece := os.pread(self._fd, _STEP_BYTES, offset)):
            self._md5.update(piece)
            offset += len(piece)
            yield

    def whole(self, chunks: Sequence[bytes], root_fd: int, path: str) -> manifest.Entry:
        """All steps at once, for a small object."""
        self.open()
        try:
            self.append(chunks)
            return self.place(root_fd, path)
        finally:
            self.close()

    def place(self, root_fd: int, path: str) -> manifest.Entry:
        """Verify and rename. Raises Unavailable for damaged bytes, InTheWay, OSError.

        The file gets the object's time, by which `compare` knows it again after a kill.
        """
        size = os.fstat(self._fd).st_size
        if size != self._info.size or (self._md5 and self._md5.hexdigest() != self._info.etag):
            raise Unavailable(f"object {shown(self._info.key)} arrived damaged")
        beneath.own(self._fd, self._mode)
        when = _modified_ns(self._info)
        os.utime(self._fd, ns=(when, when))
        if size > CHUNK_BYTES and not self._md5:
            os.fsync(self._fd)  # `compare` believes its size and time: they must not outlive its bytes
        folder, _, name = path.rpartition("/")
        try:
            with beneath.made_folder(root_fd, folder) as parent:
                os.rename(self._temp, name, src_dir_fd=self._partial_fd, dst_dir_fd=parent)
        except OSError as error:
            if error.errno in _BLOCKED:
                raise InTheWay(f"something else is in its place ({error.strerror})") from error
            raise
        return manifest.entry(os.fstat(self._fd), self._info.etag)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def compare(
    root_fd: int, path: str, info: ObjectInfo, before: manifest.Entry | None
) -> Generator[None, None, Verdict]:
    """None: fetch it. An Entry: the file is the object. A text: leave the file, and say so unless "".

    In steps, as a file may be large. Without a record it is trusted only by its bytes, or where the ETag is
    no hash of them, by the size and the object's own time. Raises OSError for a file with a record that the
    node cannot read: it may be the job's own work, which a fetch would overwrite.
    """
    try:
        with beneath.opened_file(root_fd, path) as fd:
            found = os.fstat(fd)
            if before and before.describes(found):
                return before if before.agrees(info) else None
            if before and before.agrees(info):
                return ""
            if found.st_size == info.size and (yield from _same(fd, found, info)):
                return manifest.entry(found, info.etag)
            return f"{shown(path)}: changed here and in the store, kept as it is here" if before else None
    except OSError as error:
        if before and not beneath.is_the_jobs(error):
            raise
        return None  # not there: fetching says what is in the way
    except ValueError:
        return None  # not a plain file


def _same(fd: int, found: os.stat_result, info: ObjectInfo) -> Generator[None, None, bool]:
    if not PLAIN_MD5.fullmatch(info.etag):
        return found.st_mtime_ns == _modified_ns(info)
    return (yield from md5_of(fd)) == info.etag


def md5_of(fd: int) -> Generator[None, None, str]:
    """The MD5 of an open file from its beginning, in hex; a step at a time."""
    total, offset = hashlib.md5(usedforsecurity=False), 0
    while piece := os.pread(fd, _STEP_BYTES, offset):
        total.update(piece)
        offset += len(piece)
        yield
    return total.hexdigest()


def _modified_ns(info: ObjectInfo) -> int:
    since = info.modified - _EPOCH
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1000

"""SFTP's packets: taking a request apart, putting an answer together. See `sftp` for what they mean."""

from __future__ import annotations

import errno
import os
import stat
import struct
from datetime import UTC, datetime, timedelta

VERSION, STATUS, HANDLE, DATA, NAME, ATTRS = 2, 101, 102, 103, 104, 105
EXTENDED_REPLY = 201
OK, EOF, NO_SUCH_FILE, DENIED, FAILURE, BAD_MESSAGE, UNSUPPORTED = 0, 1, 2, 3, 4, 5, 8
STATUSES = {
    errno.ENOENT: NO_SUCH_FILE,
    errno.ENOTDIR: NO_SUCH_FILE,
    errno.ELOOP: NO_SUCH_FILE,
    errno.EACCES: DENIED,
    errno.EPERM: DENIED,
    errno.EROFS: DENIED,
}
_SIZE, _OWNER, _MODE, _TIMES, _MORE = 1, 2, 4, 8, 0x80000000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Answered(Exception):
    """Ends a request with a status."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Attributes:
    """What a client wants a file to have. None: as it is."""

    size: int | None = None
    owner: tuple[int, int] | None = None
    mode: int | None = None
    times: tuple[int, int] | None = None


class Packet:
    """The fields of a request, one after the other. Raises `Answered` when there are not so many."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def _take(self, size: int) -> bytes:
        found = self._data[self._at : self._at + size]
        if len(found) < size:
            raise Answered(BAD_MESSAGE, "the packet is cut off")
        self._at += size
        return found

    def byte(self) -> int:
        return self._take(1)[0]

    def number(self) -> int:
        return int.from_bytes(self._take(4), "big")

    def long(self) -> int:
        return int.from_bytes(self._take(8), "big")

    def text(self) -> bytes:
        return self._take(self.number())

    def path(self) -> bytes:
        found = self.text()
        if b"\0" in found:
            raise Answered(FAILURE, "a path has no NUL")
        return found or b"."

    def attributes(self) -> Attributes:
        flags, found = self.number(), Attributes()
        if flags & _SIZE:
            found.size = self.long()
        if flags & _OWNER:
            found.owner = self.number(), self.number()
        if flags & _MODE:
            found.mode = self.number() & 0o7777
        if flags & _TIMES:
            found.times = self.number(), self.number()
        if flags & _MORE:
            for _ in range(self.number()):
                self.text(), self.text()
        return found


def string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def status(code: int, text: str) -> tuple[int, bytes]:
    return STATUS, struct.pack(">I", code) + string(text.encode()) + string(b"en")


def done() -> tuple[int, bytes]:
    return status(OK, "")


def attributes(of: os.stat_result) -> bytes:
    flags = _SIZE | _OWNER | _MODE | _TIMES
    owner = (of.st_uid & 0xFFFFFFFF, of.st_gid & 0xFFFFFFFF)
    times = (_seconds(of.st_atime), _seconds(of.st_mtime))
    return struct.pack(">IQ5I", flags, of.st_size, *owner, of.st_mode, *times)


def _seconds(time: float) -> int:
    """As the protocol can say it: from 1970 to 2106."""
    return min(max(int(time), 0), 0xFFFFFFFF)


def names(found: list[tuple[bytes, bytes, bytes]]) -> tuple[int, bytes]:
    parts = [string(name) + string(shown) + of for name, shown, of in found]
    return NAME, struct.pack(">I", len(found)) + b"".join(parts)


def named(path: bytes) -> tuple[int, bytes]:
    """One name, of which nothing more is said."""
    return names([(path, path, struct.pack(">I", 0))])


def line(name: bytes, of: os.stat_result) -> bytes:
    """A line of `ls -ln`."""
    day = _EPOCH + timedelta(seconds=_seconds(of.st_mtime))
    month = _MONTHS[day.month - 1]
    when = f"{month} {day.day:>2} {day.year:>5}"
    line = (
        f"{stat.filemode(of.st_mode)} {of.st_nlink:>3} {of.st_uid:<8} {of.st_gid:<8} {of.st_size:>8} {when} "
    )
    return line.encode() + name


def room(of: os.statvfs_result) -> bytes:
    # ST_RDONLY and ST_NOSUID are 1 and 2 here as they are there.
    sizes = (
        of.f_bsize,
        of.f_frsize,
        of.f_blocks,
        of.f_bfree,
        of.f_bavail,
        of.f_files,
        of.f_ffree,
        of.f_favail,
    )
    return struct.pack(">11Q", *sizes, of.f_fsid & 0xFFFFFFFFFFFFFFFF, of.f_flag & 3, of.f_namemax)

"""Reading zip archives. The standard library does it, with its reads bounded and its liberties not taken."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import IO, BinaryIO, cast

from service.errors import FetchRefused
from service.supervisor.data.archive.members import READ_BYTES, Bounded, Member, Packed, damaged

MAX_DIRECTORY_BYTES = 32 * 1024**2
"""Of the list of names at the archive's end, read at once; it takes some ten times that in memory."""

_UNIX = 3
_ENCRYPTED = 0x1
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2})
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
)


class ZipReader:
    """A `Reader`."""

    comment = ""

    def __init__(self, file: BinaryIO) -> None:
        self._packed = Packed(file)
        bounded = Bounded(self._packed, MAX_DIRECTORY_BYTES, "list of names")
        try:
            self._zip = zipfile.ZipFile(cast(IO[bytes], bounded))
        except _BROKEN as error:
            raise damaged(type(error).__name__) from None
        self._current: zipfile.ZipInfo | None = None

    def __iter__(self) -> Iterator[Member]:
        for info in self._zip.infolist():
            if info.flag_bits & _ENCRYPTED:
                raise FetchRefused("the archive is encrypted")
            if info.compress_type not in _METHODS:
                raise FetchRefused(f"the archive is packed by the method {info.compress_type}: use deflate")
            self._current = info
            yield _member(info)

    def chunks(self) -> Iterator[bytes]:
        info = self._current
        if info is None or info.is_dir():
            return
        left = info.file_size
        try:
            with self._zip.open(info) as file:
                # Through the end: the check sum is compared when there is nothing more to read.
                self._packed.anew()
                while chunk := file.read(READ_BYTES):
                    left -= len(chunk)
                    yield chunk
                    self._packed.anew()
        except _BROKEN as error:
            raise damaged(type(error).__name__) from None
        if left:
            raise damaged("cut short")

    def rest(self) -> Iterator[None]:
        yield from ()  # the list of names says where the next one is


def _member(info: zipfile.ZipInfo) -> Member:
    mode = info.external_attr >> 16 if info.create_system == _UNIX else 0
    is_folder = info.is_dir() or stat.S_ISDIR(mode)
    other = stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR)
    # `filename` ends at a NUL and may be changed otherwise; the name as it stands is what is checked.
    return Member(
        name=info.orig_filename,
        size=info.file_size,
        modified_s=_seconds(info),
        is_folder=is_folder,
        executable=bool(mode & stat.S_IXUSR),
        why=("symbolic link" if stat.S_ISLNK(mode) else "no regular file") if other else "",
    )


def _seconds(info: zipfile.ZipInfo) -> int:
    try:
        return int(datetime(*info.date_time, tzinfo=UTC).timestamp())
    except ValueError:
        return 0

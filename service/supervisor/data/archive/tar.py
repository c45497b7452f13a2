"""Reading tar archives, plain or compressed: ustar, GNU's long names and pax headers.

The standard library's headers, and a loop of our own around them: tarfile reads extended headers into
memory whatever their size, and goes on behind damage.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, Protocol, cast

from service.errors import FetchRefused
from service.supervisor.data.archive.members import READ_BYTES, Member, Packed, damaged

BLOCK = tarfile.BLOCKSIZE
MAX_EXTENDED_BYTES = 256 * 1024
MAX_TRAILER_BYTES = 1024**2
MAX_XZ_MEMORY = 256 * 1024**2

_RECORD = re.compile(rb"([0-9]{1,9}) ([^=]+)=")
_WHY = {
    tarfile.SYMTYPE: "symbolic link",
    tarfile.LNKTYPE: "hard link",
    tarfile.CHRTYPE: "device",
    tarfile.BLKTYPE: "device",
    tarfile.FIFOTYPE: "fifo",
}
_FILES = frozenset({tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE})
_PAX = frozenset({tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE})
_LONG = frozenset({tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK})
_BROKEN = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, OSError, ValueError)


class Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


class XzStream:
    """An .xz file, decompressed with bounded memory: its dictionary has the size that the archive names."""

    def __init__(self, file: Packed) -> None:
        self._file = file
        self._decompressor = self._new()
        self._raw = b""

    def _new(self) -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_XZ_MEMORY)

    def read(self, size: int, /) -> bytes:
        while True:
            if self._decompressor.eof:
                self._raw = self._decompressor.unused_data.lstrip(b"\0") or self._file.read(READ_BYTES)
                self._raw = self._raw.lstrip(b"\0")
                if not self._raw:
                    return b""
                self._decompressor = self._new()
            elif self._decompressor.needs_input and not self._raw:
                self._raw = self._file.read(READ_BYTES)
                if not self._raw:
                    raise EOFError("cut short")
            raw, self._raw = self._raw, b""
            if found := self._decompressor.decompress(raw, size):
                return found


class _Unpacked:
    """What a packed file holds. Each read of it reads a bounded part of the file, or raises FetchRefused."""

    def __init__(self, file: BinaryIO, unpacking: Callable[[Packed], Stream]) -> None:
        self._packed = Packed(file)
        self._stream = unpacking(self._packed)

    def read(self, size: int, /) -> bytes:
        self._packed.anew()
        return self._stream.read(size)


def opened(file: BinaryIO, magic: bytes) -> Stream:
    """The decompressed bytes of an archive that begins with `magic`."""
    if magic.startswith(b"\x1f\x8b"):
        return _Unpacked(file, lambda packed: gzip.GzipFile(fileobj=cast(BinaryIO, packed), mode="rb"))
    if magic.startswith(b"BZh"):
        return _Unpacked(file, lambda packed: bz2.BZ2File(cast(BinaryIO, packed)))
    if magic.startswith(b"\xfd7zXZ\0"):
        return _Unpacked(file, XzStream)
    return file


def is_tar(block: bytes) -> bool:
    """Whether this is the first block of a tar archive."""
    if block == b"\0" * BLOCK:
        return True
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


class TarReader:
    """A `Reader`. What is read beside the files is bounded, in each header and by the caller in number."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._left = self._padding = 0
        self.comment = ""
        self._first = self._read(BLOCK)
        if len(self._first) < BLOCK or not is_tar(self._first):
            raise FetchRefused("it is no archive: neither .tar (also .gz, .bz2 or .xz) nor .zip")

    def __iter__(self) -> Iterator[Member]:
        following: dict[str, str] = {}
        always: dict[str, str] = {}
        while (header := self._header()) is not None:
            if header.type in _PAX:
                found = _pax(self._extended(header))
                if header.type == tarfile.XGLTYPE:
                    always |= found
                    self.comment = found.get("comment", self.comment)
                else:
                    following |= found
            elif header.type in _LONG:
                text = self._extended(header).rstrip(b"\0").decode("utf-8", "surrogateescape")
                if header.type == tarfile.GNUTYPE_LONGNAME:
                    following["path"] = text
            else:
                member = _member(header, always | following)
                self._left, self._padding = member.size, -member.size % BLOCK
                following = {}
                yield member
                self._pass_over()
                continue
            # Each counts as a member: an archive of headers alone must come to the caller's bounds too.
            yield Member(name="", size=header.size, modified_s=0, why="header")
        # Check sums stand behind the last byte: see it, unless somebody wrote much more there.
        self._read(MAX_TRAILER_BYTES)

    def chunks(self) -> Iterator[bytes]:
        while self._left:
            chunk = self._read(min(self._left, READ_BYTES))
            if not chunk:
                raise damaged("cut short")
            self._left -= len(chunk)
            yield chunk

    def rest(self) -> Iterator[None]:
        for _ in self.chunks():
            yield

    def _pass_over(self) -> None:
        for _ in self.rest():
            pass
        self._exactly(self._padding)

    def _header(self) -> tarfile.TarInfo | None:
        block, self._first = self._first or self._read(BLOCK), b""
        if block == b"\0" * BLOCK:
            return None
        if len(block) < BLOCK:
            raise damaged("cut short")
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise damaged(str(error)) from None
        if header.type == tarfile.GNUTYPE_SPARSE:
            raise FetchRefused("the archive holds sparse files: make it without them")
        if header.size < 0:
            raise damaged("a negative size")
        return header

    def _extended(self, header: tarfile.TarInfo) -> bytes:
        if header.size > MAX_EXTENDED_BYTES:
            raise FetchRefused(f"a header of the archive is larger than {MAX_EXTENDED_BYTES} bytes")
        data = self._exactly(header.size)
        self._exactly(-header.size % BLOCK)
        return data

    def _exactly(self, size: int) -> bytes:
        data = self._read(size)
        if len(data) < size:
            raise damaged("cut short")
        return data

    def _read(self, size: int) -> bytes:
        """`size` bytes, fewer at the end of the archive."""
        found = bytearray()
        try:
            while len(found) < size and (piece := self._stream.read(size - len(found))):
                found += piece
        except lzma.LZMAError as error:
            raise damaged(str(error)) from None
        except _BROKEN as error:
            raise damaged(type(error).__name__) from None
        return bytes(found)


def _pax(data: bytes) -> dict[str, str]:
    """The records `LENGTH NAME=VALUE\\n` of an extended header."""
    found: dict[str, str] = {}
    at = 0
    while at < len(data) and data[at]:
        match = _RECORD.match(data, at)
        if match is None:
            raise damaged("an extended header")
        end = at + int(match[1])
        if end <= match.end() or end > len(data) or data[end - 1 : end] != b"\n":
            raise damaged("an extended header")
        name = match[2].decode("utf-8", "surrogateescape")
        found[name] = data[match.end() : end - 1].decode("utf-8", "surrogateescape")
        at = end
    return found


def _member(header: tarfile.TarInfo, pax: dict[str, str]) -> Member:
    if any(name.startswith("GNU.sparse.") for name in pax):
        raise FetchRefused("the archive holds sparse files: make it without them")
    size = _number(pax["size"]) if "size" in pax else header.size
    kind = header.type
    has_data = kind in _FILES or kind not in tarfile.SUPPORTED_TYPES
    why = _WHY.get(kind, "" if kind in _FILES or kind == tarfile.DIRTYPE else "of no known kind")
    return Member(
        name=pax.get("path", header.name),
        size=size if has_data else 0,
        modified_s=_number(pax["mtime"].partition(".")[0]) if "mtime" in pax else int(header.mtime),
        is_folder=kind == tarfile.DIRTYPE,
        executable=bool(header.mode & stat.S_IXUSR),
        why=why,
    )


def _number(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise damaged("a number")
    return max(0, int(text))

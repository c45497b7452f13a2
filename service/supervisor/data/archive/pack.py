"""A volume's files as one tar, made as it is read: the same files are the same bytes, whenever and wherever.

So that they are, members come in the order of their names, and neither times nor owners are kept; the
execute bit is. Empty folders are left out, as a data store has none. Blocking.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from service.domain.shown import shown
from service.supervisor.data.archive.members import READ_BYTES
from service.supervisor.data.model import CHUNK_BYTES
from service.supervisor.data.outgoing import Unstable
from service.supervisor.data.volume import beneath, manifest

OVERHEAD_BYTES = 4 * tarfile.BLOCKSIZE
"""The most that a member costs beside its bytes: its header, one for a long name, and the padding."""

_GZIP = zlib.MAX_WBITS | 16


@dataclass
class Packing:
    """What is packed, and what came of it so far. `files` says in which folder on the disk each path is.

    `entries` are the members as they were packed, `left_out` those that were gone or no plain file any more.
    """

    files: Mapping[str, Path]
    entries: dict[str, manifest.Entry] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def stream(self, *, compressed: bool) -> Iterator[bytes]:
        """The archive. Raises Unstable when a file changes while it is read, and OSError."""
        self.entries.clear()
        self.left_out.clear()
        return _compressed(self._tar()) if compressed else self._tar()

    def _tar(self) -> Iterator[bytes]:
        for path in sorted(self.files):
            yield from self._member(path, self.files[path])
        yield bytes(2 * tarfile.BLOCKSIZE)

    def _member(self, path: str, root: Path) -> Iterator[bytes]:
        with ExitStack() as stack:
            root_fd = stack.enter_context(beneath.opened_root(root))
            try:
                fd = stack.enter_context(beneath.opened_file(root_fd, path))
            except ValueError as why:
                self.left_out[path] = f"{shown(path)}: {why}, not pushed"
                return
            except OSError as error:
                if error.errno not in beneath.SWAPPED:
                    raise  # an archive that is replaced must not lose a file for it
                why_not = "deleted meanwhile" if error.errno == errno.ENOENT else "no plain file any more"
                self.left_out[path] = f"{shown(path)}: {why_not}, not pushed"
                return
            yield from self._read(path, fd)

    def _read(self, path: str, fd: int) -> Iterator[bytes]:
        found = os.fstat(fd)
        yield _header(path, found)
        total, left = hashlib.md5(usedforsecurity=False), found.st_size
        while left:
            piece = os.read(fd, min(left, READ_BYTES))
            if not piece:
                raise Unstable
            total.update(piece)
            left -= len(piece)
            yield piece
        yield bytes(-found.st_size % tarfile.BLOCKSIZE)
        entry = manifest.entry(found, total.hexdigest())
        if not entry.describes(os.fstat(fd)):
            raise Unstable
        self.entries[path] = entry


def _header(path: str, found: os.stat_result) -> bytes:
    info = tarfile.TarInfo(path)
    info.size = found.st_size
    info.mode = 0o755 if found.st_mode & stat.S_IXUSR else 0o644
    info.uid = info.gid = beneath.OWNER
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def _compressed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(wbits=_GZIP)
    for piece in pieces:
        yield packer.compress(piece)
    yield packer.flush()


class Digest:
    """What ETag a store may give to the bytes that were added: their MD5, or that of their parts."""

    def __init__(self) -> None:
        self.size = 0
        self._whole = hashlib.md5(usedforsecurity=False)
        self._part = hashlib.md5(usedforsecurity=False)
        self._parts: list[bytes] = []

    def add(self, piece: bytes) -> None:
        self._whole.update(piece)
        view = memoryview(piece)
        while view:
            room = CHUNK_BYTES - self.size % CHUNK_BYTES
            self._part.update(view[:room])
            self.size += len(view[:room])
            view = view[room:]
            if self.size % CHUNK_BYTES == 0:
                self._close_part()

    def _close_part(self) -> None:
        self._parts.append(self._part.digest())
        self._part = hashlib.md5(usedforsecurity=False)

    def is_of(self, etag: str) -> bool:
        """Whether an object of that ETag, sent whole or in chunks, has these bytes."""
        if "-" not in etag:
            return self._whole.hexdigest() == etag
        parts = self._parts + ([self._part.digest()] if self.size % CHUNK_BYTES else [])
        joined = hashlib.md5(b"".join(parts), usedforsecurity=False).hexdigest()
        return etag == f"{joined}-{len(parts)}"

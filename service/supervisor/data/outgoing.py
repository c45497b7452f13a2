"""One file of a push, read from a single descriptor. Blocking."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator

from service.supervisor.data.incoming import md5_of
from service.supervisor.data.model import CHUNK_BYTES, ObjectInfo, part_bytes
from service.supervisor.data.s3.bodies import Body, hashed
from service.supervisor.data.volume import beneath, manifest


class Unstable(Exception):
    """The file changed while it was read."""


class Outgoing:
    """A plain file of the volume. `begin` comes first; what is open after it must be closed."""

    def __init__(self, root_fd: int, path: str) -> None:
        self._root_fd = root_fd
        self._path = path
        self._fd = -1

    @property
    def is_open(self) -> bool:
        return self._fd >= 0

    def begin(self, *, signed: bool) -> Body | None:
        """Open the file. Of a small one, all bytes, and it is closed again; of a large one None.

        Raises OSError, ValueError that says why it is no plain file, and Unstable.
        """
        self._open()
        if self.size > CHUNK_BYTES:
            return None
        try:
            data = self._read(0, self.size)
            self.check_stable()
            return hashed(data, signed=signed)
        finally:
            self.close()

    def _open(self) -> None:
        with beneath.opened_file(self._root_fd, self._path) as fd:
            self._fd = os.dup(fd)
        self._found = os.fstat(self._fd)
        self.size = self._found.st_size
        self._part = part_bytes(self.size)

    @property
    def parts(self) -> int:
        return -(-self.size // self._part)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def check_stable(self) -> None:
        """Raise Unstable unless the file is as it was when opened."""
        if not self.entry("").describes(os.fstat(self._fd)):
            raise Unstable

    def part(self, number: int, *, signed: bool) -> Body:
        """Part `number`, from 1. Raises Unstable when the file became shorter."""
        offset = (number - 1) * self._part
        return hashed(self._read(offset, min(self._part, self.size - offset)), signed=signed)

    def is_object(self, info: ObjectInfo) -> Generator[None, None, bool]:
        """True when an object of the same size has these bytes, as far as its ETag can tell. Reads all, in
        steps."""
        if "-" not in info.etag:
            same = (yield from md5_of(self._fd)) == info.etag
        else:
            same = info.etag == f"{(yield from self._parts_md5())}-{self.parts}"
        self.check_stable()
        return same

    def entry(self, etag: str) -> manifest.Entry:
        return manifest.entry(self._found, etag)

    def _parts_md5(self) -> Generator[None, None, str]:
        total = hashlib.md5(usedforsecurity=False)
        for number in range(1, self.parts + 1):
            total.update(self.part(number, signed=False).md5)
            yield
        return total.hexdigest()

    def _read(self, offset: int, length: int) -> bytes:
        pieces = []
        while length:
            piece = os.pread(self._fd, length, offset)
            if not piece:
                raise Unstable
            pieces.append(piece)
            offset += len(piece)
            length -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

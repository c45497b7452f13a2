"""What an archive holds: the one shape in which tar and zip files are read, and telling them apart.

Archives come from strangers. Nothing is read into memory whose size the archive chooses, nothing is taken
from names but the text, and every problem is FetchRefused. Blocking.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from service.errors import FetchRefused

READ_BYTES = 256 * 1024

MAX_HOLLOW_BYTES = 4 * 1024**2
"""Of a packed archive, read for one piece of at most a megabyte that it holds. More is needed by none: with
bzip2, which needs the most, nothing comes out before a block of nearly a megabyte."""


@dataclass(frozen=True, slots=True)
class Member:
    """One entry. `why` says why it is neither a file nor a folder that a volume can hold ("" else).

    `size` is what the archive says; whoever reads the bytes finds out. `modified_s` is seconds since 1970.
    """

    name: str
    size: int
    modified_s: int
    is_folder: bool = False
    executable: bool = False
    why: str = ""


class Reader(Protocol):
    """An archive that is read once from its beginning."""

    @property
    def comment(self) -> str:
        """What the archive says of itself (of git: the commit), as far as it was read; "" for nothing."""

    def __iter__(self) -> Iterator[Member]:
        """The members in their order. Bytes of the one before that were not read are passed over."""

    def chunks(self) -> Iterator[bytes]:
        """The bytes of the member that came last, exactly `size` of them."""

    def rest(self) -> Iterator[None]:
        """Pass over what nobody read of them, piece by piece: the next member would do so at once."""


def damaged(why: str = "") -> FetchRefused:
    return FetchRefused(f"the archive is damaged{f' ({why})' if why else ''}")


class Packed:
    """A packed file, of which little is read before something comes out: `anew` begins to count, again and
    again. What is read before is its reader's own.

    A library reads on until it has something to give, through a gigabyte that holds nothing, and nobody can
    cancel it meanwhile.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left: int | None = None

    def anew(self) -> None:
        self._left = MAX_HOLLOW_BYTES

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                raise FetchRefused(f"the archive holds nothing for more than {MAX_HOLLOW_BYTES} bytes")
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


class Bounded:
    """A file whose single reads are bounded: libraries read at once what an archive calls its size."""

    def __init__(self, file: Packed, most: int, what: str) -> None:
        self._file = file
        self._most = most
        self._what = what

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > self._most:
            here = self._file.tell()
            left = self._file.seek(0, 2) - here
            self._file.seek(here)
            if min(left, size if size >= 0 else left) > self._most:
                raise FetchRefused(f"the archive's {self._what} is larger than {self._most} bytes")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

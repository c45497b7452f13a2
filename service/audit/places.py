"""Where checkpoints and tiles are kept: files that are written once, whole or not at all, and never again."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from service.domain.shown import shown
from service.errors import Misconfigured, Unavailable
from service.files import make_once

T = TypeVar("T")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
_BUCKET = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(/[A-Za-z0-9._/-]*)?")
_ALLOWED = (
    "it must be a directory, or s3://bucket/prefix, where the bucket is 3 to 63 lower-case letters, digits, "
    "'-' and '.', and the prefix, which may be left out, letters, digits, '.', '_', '-' and '/'"
)


class Place(Protocol):
    """A folder or a bucket. Names are relative, with `/` between folders. Raises `Unavailable`."""

    async def read(self, name: str) -> bytes | None:
        """The file's bytes, or None when there is none."""

    async def write(self, name: str, data: bytes) -> bool:
        """Keep a new file; one that is there stays. Whether it has these bytes afterwards."""

    async def names(self, folder: str, after: str = "") -> list[str]:
        """The files right in a folder, in order, that come after a name."""

    async def folders(self) -> list[str] | None:
        """The folders right in the place, in order; None when the place itself is not there."""

    async def close(self) -> None: ...


class Directory:
    """A place on a file system."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    async def read(self, name: str) -> bytes | None:
        return await self._run(name, _read, self.path / name)

    async def write(self, name: str, data: bytes) -> bool:
        return await self._run(name, _write, self.path / name, data)

    async def names(self, folder: str, after: str = "") -> list[str]:
        return await self._run(folder, _names, self.path / folder, after)

    async def folders(self) -> list[str] | None:
        return await self._run("", _folders, self.path)

    async def close(self) -> None:
        """Nothing is open."""

    async def _run(self, name: str, work: Callable[..., T], *given: Any) -> T:
        try:
            return await asyncio.to_thread(partial(work, *given))
        except OSError as error:
            raise Unavailable(
                f"{self.path / name} cannot be used: {error.strerror or type(error).__name__}"
            ) from error


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _write(path: Path, data: bytes) -> bool:
    """Whether the file has these bytes afterwards: whoever came first counts."""
    return make_once(path, data) == data


def _names(folder: Path, after: str) -> list[str]:
    try:
        found = [entry.name for entry in os.scandir(folder) if entry.is_file(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(name for name in found if name > after and not name.startswith("."))


def _folders(folder: Path) -> list[str] | None:
    try:
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return None


def read_bucket(field: str, text: str) -> tuple[str, str] | None:
    """Bucket and prefix of an `s3://` URL; None for a text that is a path. Raises `Misconfigured` for the
    variable or the option `field`."""
    if not text.startswith("s3://"):
        if _URL.match(text):  # mistyped; a folder of that name would be made, where nobody looks for it
            raise Misconfigured(
                f"{field}: {shown(text)!r} is not allowed; {_ALLOWED}; if it is a directory, write "
                f"./{shown(text)}"
            )
        return None
    found = _BUCKET.fullmatch(text)
    if found is None:
        raise Misconfigured(f"{field}: {shown(text)!r} is not allowed; {_ALLOWED}")
    return found[1], (found[2] or "").strip("/")

"""An entry of the cache on the disk: one source of one project, and the generations there are of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from service.supervisor.cache.record import Record

MAKING, GONE, USED, FILES = "making-", "gone-", "used", "files"


class Key(NamedTuple):
    """A source of a project. Projects never share an entry, whatever their data stores are."""

    project: str
    digest: str

    def __str__(self) -> str:
        return f"{self.project}/{self.digest}"

    @classmethod
    def of(cls, project: str, origin: tuple[str, ...]) -> Key:
        return cls(project, hashlib.sha256(msgspec.json.encode(origin)).hexdigest()[:32])


class Version(NamedTuple):
    """A generation by its name: an entry, and a number that grows."""

    key: Key
    number: int


@dataclass(frozen=True)
class Generation:
    """A generation that can be used. `files` is the directory that jobs see."""

    version: Version
    files: Path
    record: Record


def entry_dir(root: Path, key: Key) -> Path:
    return root / key.project / key.digest


def files_dir(root: Path, version: Version) -> Path:
    return entry_dir(root, version.key) / str(version.number) / FILES


def entries(root: Path) -> Iterator[Key]:
    """All entries there are. Blocking."""
    for path in sorted(root.glob("*/*/")):
        yield Key(path.parent.name, path.name)


def numbers(folder: Path) -> list[int]:
    """The generations of an entry, the newest last. Blocking."""
    return sorted(int(name) for name in _names(folder) if name.isdecimal())


def named(folder: Path, prefix: str) -> list[Path]:
    """What an entry has of this kind. Blocking."""
    return [folder / name for name in sorted(_names(folder)) if name.startswith(prefix)]


def _names(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return []


def used_ns(folder: Path) -> int:
    """When a job last had something of the entry, in ns since 1970; 0 when nobody knows. Blocking."""
    try:
        return (folder / USED).stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def touch(folder: Path, now_ns: int) -> None:
    """A job has something of the entry at this moment. Blocking. Raises OSError."""
    (folder / USED).touch()
    os.utime(folder / USED, ns=(now_ns, now_ns))

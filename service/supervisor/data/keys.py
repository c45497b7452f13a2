"""Object keys to paths and back. Pure.

How a prefix maps: the mount path stands for the folder that the prefix names, that is, everything up to
and including its last "/". With the prefix `data/`, the object `data/a/b` is the file `a/b`, and a new
file `c` is pushed as `data/c`. A prefix that ends inside a name (`data/tr`) filters within that folder:
`data/train/x` is the file `train/x`, and only files whose key begins with the prefix are pushed. No
prefix means the whole container. The mapping is the same both ways.

A key that ends in "/" is a folder marker: it makes the folder. Folders are not pushed on their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from service.domain.shown import shown
from service.errors import DataError, StoreRefused, UnsafeKey
from service.supervisor.data.model import JOBS_LIMIT, Limits, ObjectInfo

MAX_SEGMENT_BYTES = 255
MAX_KEY_BYTES = 1024

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_CONTAINER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,253}[A-Za-z0-9])?", re.ASCII)


def unsafe(path: str) -> str | None:
    """Why the relative `path` must not become a file or an object, or None when it may."""
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        return "the name is not UTF-8"
    if not path:
        return "the name is empty"
    if len(encoded) > MAX_KEY_BYTES:
        return f"the name is longer than {MAX_KEY_BYTES} bytes"
    if path.startswith("/"):
        return 'it begins with "/"'
    if _CONTROL.search(path):
        return "it holds a control character"
    for segment in path.split("/"):
        if segment in ("", ".", ".."):
            return f'it has the segment "{segment}"'
        if len(segment.encode()) > MAX_SEGMENT_BYTES:
            return f"a segment is longer than {MAX_SEGMENT_BYTES} bytes"
    return None


def check_key(key: str) -> None:
    """Refuse a whole object key that could not be pulled later (uploads through the API use this)."""
    if why := unsafe(key):
        raise UnsafeKey(f"object {shown(key)}: {why}")


def check_container(name: str) -> None:
    """Refuse what cannot be a container's name. It becomes part of a URL."""
    if not _CONTAINER.fullmatch(name) or ".." in name:
        raise StoreRefused(f"{shown(name)} is not a container name: letters, digits, dots and dashes")


def ancestors(path: str) -> Iterable[str]:
    """The folders above `path`, outermost first: `a/b/c` gives `a`, `a/b`."""
    at = path.find("/")
    while at != -1:
        yield path[:at]
        at = path.find("/", at + 1)


@dataclass(frozen=True, slots=True)
class Mapping:
    """Keys to paths and back for one prefix; the module docstring says how."""

    prefix: str
    folder: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", self.prefix[: self.prefix.rfind("/") + 1])

    def path(self, key: str) -> str:
        """The path of `key`, relative to the mount path; a marker keeps its last "/". Not checked."""
        return key.removeprefix(self.folder)

    def key(self, path: str) -> str:
        return self.folder + path

    def unsafe(self, path: str) -> str | None:
        """Why the file at `path` is not pushed, or None."""
        if why := unsafe(path):
            return why
        key = self.key(path)
        if not key.startswith(self.prefix):
            return f"outside the prefix {shown(self.prefix)}"
        return None if len(key.encode()) <= MAX_KEY_BYTES else f"the key is longer than {MAX_KEY_BYTES} bytes"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a pull will make: files by path, and folders that only markers name."""

    files: dict[str, ObjectInfo]
    folders: frozenset[str]


class Planning:
    """A plan in the making: one object after the other, refused as soon as it goes beyond the limits.

    So a listing is never held that no volume could. What is told twice counts twice towards an end: a store
    may tell of the same object for ever.
    """

    def __init__(self, mapping: Mapping, limits: Limits) -> None:
        self._mapping = mapping
        self._limits = limits
        self._files: dict[str, ObjectInfo] = {}
        self._folders: set[str] = set()
        self._told = self._size = 0

    def add(self, info: ObjectInfo) -> None:
        """Raises UnsafeKey for a key that must not become a path, and DataError beyond the limits."""
        self._told += 1
        path = self._mapping.path(info.key)
        if path:  # else it is the marker of the mounted folder itself
            _check(info.key, path.removesuffix("/"), self._limits)
            if path.endswith("/"):
                self._folders.add(path.removesuffix("/"))
            else:
                self._files[path] = info
                self._size += info.size
        most = self._limits.max_objects
        if len(self._files) + len(self._folders) > most or self._told > most + 1:
            raise DataError(f"more than {most} objects under the prefix")
        if self._size > self._limits.max_bytes:
            raise too_large(self._limits)

    def done(self) -> Plan:
        """Raises UnsafeKey for a key that is both a file and a folder."""
        _refuse_collisions(self._files, self._folders)
        return Plan(self._files, frozenset(self._folders))


def too_large(limits: Limits) -> DataError:
    return DataError(f"more than {limits.max_bytes} bytes under the prefix{JOBS_LIMIT}")


def plan(objects: Iterable[ObjectInfo], mapping: Mapping, limits: Limits) -> Plan:
    """Turn what is known whole into files and folders, or refuse all of it. Raises as `Planning`."""
    planning = Planning(mapping, limits)
    for info in objects:
        planning.add(info)
    return planning.done()


def _check(key: str, path: str, limits: Limits) -> None:
    if why := unsafe(path):
        raise UnsafeKey(f"object {shown(key)}: {why}")
    if path.count("/") >= limits.max_depth:
        raise DataError(f"object {shown(key)}: more than {limits.max_depth} folders deep")


def _refuse_collisions(files: dict[str, ObjectInfo], folders: set[str]) -> None:
    for path in folders & files.keys():
        raise UnsafeKey(f"object {shown(files[path].key)}: the same name is a file and a folder")
    for path in (*files, *folders):
        for above in ancestors(path):
            if above in files:
                raise UnsafeKey(f"object {shown(files[above].key)}: the same name is a file and a folder")

"""How many bytes of the disk the cache has: blocks, each counted once however many names it has."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence, Set
from contextlib import suppress
from pathlib import Path

from service.supervisor.cache.entry import GONE, MAKING, Key, entry_dir

BLOCK_BYTES = 512


class Measure:
    """Remembers what it measured: a generation never changes, so an entry with the same folders is the same.

    Leftovers of attempts that were cut off are told apart by their time. Blocking.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[tuple[Key, frozenset[tuple[str, int, int]]], int] = {}

    def all(self, keys: Iterable[Key], made_now: Set[Key]) -> int:
        """All entries together, without what is being removed, and what is being made."""
        before, self._known, total = self._known, {}, 0
        for key in keys:
            found = _folders(self._folder(key))
            if key in made_now:
                found = [name for name in found if not name.startswith(MAKING)]
            total += self._size(key, found, before)
        return total

    def freed(self, key: Key, names: Sequence[str]) -> int:
        """What an entry would have less without these of its folders."""
        found = _folders(self._folder(key))
        rest = [name for name in found if name not in names]
        return self._size(key, found, self._known) - self._size(key, rest, self._known)

    def _folder(self, key: Key) -> Path:
        return entry_dir(self._root, key)

    def _size(
        self, key: Key, names: Sequence[str], before: dict[tuple[Key, frozenset[tuple[str, int, int]]], int]
    ) -> int:
        folder = self._folder(key)
        found = []
        for name in names:
            with suppress(
                FileNotFoundError
            ):  # of a process that has lost the engine, and finished it just now
                found.append((name, (folder / name).stat()))
        which = (key, frozenset((name, each.st_ino, each.st_mtime_ns) for name, each in found))
        size = before.get(which)
        if size is None:
            seen: set[int] = set()
            size = sum(_blocks(folder / name, seen) for name in names)
        self._known[which] = size
        return size


def _folders(entry: Path) -> list[str]:
    names = (path.name for path in entry.iterdir() if path.is_dir())
    return sorted(name for name in names if not name.startswith(GONE))


def _blocks(top: Path, seen: set[int]) -> int:
    total = 0
    folders = [str(top)]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    found = entry.stat(follow_symlinks=False)
                    if found.st_ino in seen:
                        continue
                    seen.add(found.st_ino)
                    total += found.st_blocks * BLOCK_BYTES
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
        except FileNotFoundError:
            continue  # an attempt is at work there
    return total

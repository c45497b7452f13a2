"""Adding up what folders take on the disk, while a hostile job may be changing them. Blocking.

Counted are allocated blocks, as `du` does: a sparse file takes what was written of it, and a file with
several names is one file. Nothing is followed and no other file system entered; each folder is opened beneath
the one that it was seen in (`beneath.openat2`), so a name that is swapped for a link leads nowhere.

Memory and descriptors are bounded whatever the tree: the first levels stay open and are read as they come,
and below them one folder is open at a time and the way back is `..`, checked to be where we came from.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from service.supervisor.data.volume import beneath

BLOCK_BYTES = 512
"""The unit of st_blocks, whatever the file system's own is."""

HELD = 48
"""So many levels of a tree are held open, with two descriptors each."""

#: Files of this size or more are remembered, so that one that is renamed while we look counts once. Those
#: with several names are remembered whatever their size.
REMEMBERED_BYTES = 64 * 1024

#: So many files are remembered. Of those with several names beyond them each name counts for its part.
MOST_REMEMBERED = 1_000_000

#: Names of folders below the held levels that wait to be looked into, at most.
WAITING = 500_000

_LOOK_EVERY = 1024
_TOLD = 3
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV)
_CLOSED = (errno.EACCES, errno.EPERM)

_Identity = tuple[int, int]


class Stopped(Exception):
    """The one who asked has gone."""


class Tally:
    """What was added up so far. `missed` says what could not be looked at: then it is more than `bytes`."""

    def __init__(self, stop: threading.Event | None = None) -> None:
        self.bytes = 0
        self.missed: list[str] = []
        self._stop = stop or threading.Event()
        self._counted: set[_Identity] = set()
        self._looks = 0

    def tree(self, root: Path) -> None:
        """Add a folder and all that is in it. Its own path is ours and trusted.

        Raises `OSError` when it cannot be opened or the disk fails, and `Stopped`.
        """
        _Walk(self).run(os.open(root, _FOLDER))

    def file(self, found: os.stat_result) -> None:
        """Add one thing, unless it was counted."""
        size = found.st_blocks * BLOCK_BYTES
        if size and not stat.S_ISDIR(found.st_mode) and (found.st_nlink != 1 or size >= REMEMBERED_BYTES):
            known = (found.st_dev, found.st_ino)
            if known in self._counted:
                return
            if len(self._counted) < MOST_REMEMBERED:
                self._counted.add(known)
            else:
                size //= max(1, found.st_nlink)
        self.bytes += size

    def miss(self, what: str) -> None:
        if len(self.missed) < _TOLD and what not in self.missed:
            self.missed.append(what)

    def look_up(self) -> None:
        """Raises `Stopped` now and then, once nobody waits for the sum."""
        self._looks += 1
        if self._looks % _LOOK_EVERY == 0 and self._stop.is_set():
            raise Stopped


class _Level:
    """A folder that is held open while what is below it is looked at."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        try:
            self._entries = os.scandir(fd)
        except OSError:
            os.close(fd)
            raise

    def __iter__(self) -> Iterator[os.DirEntry[str]]:
        return self._entries

    def close(self) -> None:
        self._entries.close()
        os.close(self.fd)


class _Walk:
    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._waiting = 0

    def run(self, root_fd: int) -> None:
        self._tally.file(os.fstat(root_fd))
        levels = [_Level(root_fd)]
        try:
            while levels:
                name = next(self._folders(levels[-1]), None)
                if name is None:
                    levels.pop().close()
                elif (fd := self._entered(levels[-1].fd, name)) is None:
                    continue
                elif len(levels) < HELD:
                    levels.append(_Level(fd))
                else:
                    self._below(fd)
        finally:
            for level in levels:
                level.close()

    def _folders(self, entries: Iterable[os.DirEntry[str]]) -> Iterator[str]:
        """Add the files of a folder that are left to be read, up to the next folder in it."""
        for entry in entries:
            self._tally.look_up()
            try:
                if entry.is_dir(follow_symlinks=False):
                    yield entry.name
                else:
                    self._tally.file(entry.stat(follow_symlinks=False))
            except OSError as error:
                self._passed_over(error, entry.name)

    def _entered(self, above: int, name: str) -> int | None:
        """A descriptor of the folder, which is counted itself; None when it is gone or closed to us."""
        try:
            fd = beneath.openat2(above, name, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            self._passed_over(error, name)
            return None
        self._tally.file(os.fstat(fd))
        return fd

    def _below(self, fd: int) -> None:
        """A folder deeper than those that are held open, and all below it. Closes it."""
        here = [fd]
        try:
            trail = [(_identity(fd), self._names(fd))]
            while True:
                names = trail[-1][1]
                if names:
                    self._waiting -= 1
                    entered = self._entered(here[0], names.pop())
                    if entered is not None:
                        _move_to(here, entered)
                        trail.append((_identity(entered), self._names(entered)))
                    continue
                trail.pop()
                if not trail:
                    return
                _move_to(here, os.open("..", _FOLDER, dir_fd=here[0]))
                if _identity(here[0]) != trail[-1][0]:
                    self._waiting -= sum(len(left) for _, left in trail)
                    self._tally.miss("a deep folder was moved meanwhile")
                    return
        finally:
            os.close(here[0])

    def _names(self, fd: int) -> list[str]:
        """Add the files of a folder, and answer the names of the folders in it."""
        names = []
        with os.scandir(fd) as entries:
            for name in self._folders(entries):
                if self._waiting < WAITING:
                    self._waiting += 1
                    names.append(name)
                else:
                    self._tally.miss(f"more than {WAITING} folders deep in the tree")
        return names

    def _passed_over(self, error: OSError, name: str) -> None:
        """What went or was swapped meanwhile is as if it never was; the disk's own faults are not."""
        if error.errno in _CLOSED:
            self._tally.miss(f"{ascii(name)[:80]}: {os.strerror(error.errno)}")
        elif error.errno not in _GONE:
            raise error


def _identity(fd: int) -> _Identity:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def _move_to(here: list[int], fd: int) -> None:
    before, here[0] = here[0], fd
    os.close(before)

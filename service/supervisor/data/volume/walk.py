"""Looking through a hostile volume: what is there to push, and what is not."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from service.domain.shown import shown
from service.errors import DataError
from service.supervisor.data.keys import ancestors
from service.supervisor.data.model import Limits
from service.supervisor.data.volume import beneath
from service.supervisor.data.volume.manifest import Entry, entry


@dataclass(slots=True)
class Tree:
    """Plain files by path, as they are (without an ETag), and everything else with the reason why it is not
    pushed. There may be a million: a stat result is three times as large as what is kept of it.

    Only the names are sure: by the time of the push a file may be something else, so each is opened and
    looked at again.
    """

    files: dict[str, Entry] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    total_bytes: int = 0

    def hides(self, path: str) -> bool:
        """True when `path` may exist, yet cannot be seen: it or a folder above it was skipped."""
        return path in self.skipped or any(above in self.skipped for above in ancestors(path))


def walk(root: Path, limits: Limits) -> Tree:
    """All of a volume. Blocking. Raises DataError beyond the limits and for a folder that the disk does not
    give; OSError when the root cannot be read.

    One descriptor is open at a time, whatever the depth. Sizes count as the larger of length and blocks:
    the length is what would be sent (a sparse file is small on disk), the blocks what it costs us.
    """
    tree, seen, most = Tree(), 0, limits.max_bytes
    with beneath.opened_root(root) as root_fd:
        _refuse_too_many(root_fd, limits)
        folders = [""]
        while folders:
            folder = folders.pop()
            with closing(_entries(root_fd, folder, tree)) as entries:
                for name, found in entries:
                    path = f"{folder}/{name}" if folder else name
                    seen += 1
                    if seen > limits.max_objects:  # it grows while it is looked through
                        raise _too_many(limits)
                    if stat.S_ISDIR(found.st_mode):
                        folders.append(_within(path, limits))
                    elif why := beneath.not_plain(found):
                        tree.skipped[path] = why
                    else:
                        tree.files[path] = entry(found, "")
                        taken = found.st_blocks * 512
                        tree.total_bytes += max(found.st_size, taken)
                        most += taken if limits.beyond_disk else 0
                    if tree.total_bytes > most:
                        raise DataError(f"the volume holds more than {most} bytes")
    return tree


def _refuse_too_many(root_fd: int, limits: Limits) -> None:
    """Count the names alone: a volume that is refused takes no memory, however many files it holds.

    What cannot be read is not counted; the walk tells of it.
    """
    count, folders = 0, [""]
    while folders:
        folder = folders.pop()
        with suppress(OSError), beneath.opened_folder(root_fd, folder) as fd, os.scandir(fd) as entries:
            for each in entries:
                count += 1
                if count > limits.max_objects:
                    raise _too_many(limits)
                if each.is_dir(follow_symlinks=False) and folder.count("/") + 1 < limits.max_depth:
                    folders.append(f"{folder}/{each.name}" if folder else each.name)


def _too_many(limits: Limits) -> DataError:
    return DataError(f"the volume holds more than {limits.max_objects} files and folders")


def _within(path: str, limits: Limits) -> str:
    if path.count("/") + 1 > limits.max_depth:
        raise DataError(f"folder {shown(path)}: more than {limits.max_depth} folders deep")
    return path


def _entries(root_fd: int, folder: str, tree: Tree) -> Generator[tuple[str, os.stat_result], None, None]:
    """Names and their stat in one folder, one after the other: it may hold more than anybody would keep. A
    folder that the job swapped, or made so deep that no path leads to it, is skipped. Of one that cannot be
    read otherwise all files would be lost, so it raises DataError."""
    try:
        with beneath.opened_folder(root_fd, folder) as fd, os.scandir(fd) as entries:
            for each in entries:
                try:
                    found = each.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # deleted since: as if it never was
                yield each.name, found
    except OSError as error:
        if not folder:
            raise
        if not beneath.is_the_jobs(error) and error.errno != errno.ENAMETOOLONG:
            raise DataError(f"folder {shown(folder)}: cannot be read ({error.strerror})") from error
        if error.errno != errno.ENOENT:
            tree.skipped[folder] = f"cannot be read ({os.strerror(error.errno or 0)})"

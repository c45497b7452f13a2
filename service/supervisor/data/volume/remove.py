"""Deleting a volume that a hostile job filled."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from service.supervisor.data import disk
from service.supervisor.data.volume import beneath
from service.supervisor.data.volume.layout import manifest_path, partial_path

_AT_TOP = ".jobyard-removing-"


async def remove_tree(root: Path) -> None:
    """Delete a volume with its manifest and partial downloads; gone already is fine. Raises DataError.

    Call it when no container uses the volume any more. It can be repeated after a kill at any point.
    """
    with disk.faults(f"volume {root.name}"):
        await disk.run(_remove, root)


def _remove(root: Path) -> None:
    try:
        with beneath.opened_root(root) as fd:
            _empty(fd)
        root.rmdir()
    except FileNotFoundError:
        pass  # an earlier attempt got this far
    manifest_path(root).unlink(missing_ok=True)
    if partial_path(root).exists():
        shutil.rmtree(partial_path(root))  # ours: no job ever saw it


def _empty(root_fd: int) -> None:
    """Delete everything below, with two descriptors at any depth: folders are moved up to the top first.

    Nothing is followed: unlink and rmdir act on names in an open folder, and folders are opened beneath it.
    """
    number = 0
    while True:
        folders = _unlink_files(root_fd)
        if not folders:
            return
        for folder in folders:
            number = _flatten(root_fd, folder, number)


def _flatten(root_fd: int, folder: str, number: int) -> int:
    """Delete the files of one top folder, move its folders up beside it, and delete it."""
    _open_up(root_fd, folder)
    fd = beneath.openat2(root_fd, folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for below in _unlink_files(fd):
            _open_up(fd, below)
            while _exists(root_fd, f"{_AT_TOP}{number}"):
                number += 1
            os.rename(below, f"{_AT_TOP}{number}", src_dir_fd=fd, dst_dir_fd=root_fd)
            number += 1
    finally:
        os.close(fd)
    os.rmdir(folder, dir_fd=root_fd)
    return number


def _unlink_files(fd: int) -> list[str]:
    """Unlink all that is not a folder in an open folder; the names of the folders."""
    folders = []
    with os.scandir(fd) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            else:
                os.unlink(entry.name, dir_fd=fd)
    return folders


def _open_up(parent_fd: int, folder: str) -> None:
    """Make a mode-000 folder readable. Root needs no such thing, and only an owner could do it."""
    if os.geteuid() != 0:
        os.chmod(folder, 0o700, dir_fd=parent_fd)


def _exists(fd: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True

"""Where a volume's files are on the host.

    <volumes_root>/<job id>/<run>/<index>/               what the container sees
    <volumes_root>/<job id>/<run>/<index>.manifest.json  what was synchronised last
    <volumes_root>/<job id>/<run>/<index>.partial/       downloads that are not whole yet

The last two are beside the first, so that no container can see or change them, and on the same file
system, so that a finished download is renamed into place.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from service.supervisor.data import disk
from service.supervisor.data.volume import beneath

_RACES = 16


def manifest_path(root: Path) -> Path:
    return root.with_name(root.name + ".manifest.json")


def partial_path(root: Path) -> Path:
    return root.with_name(root.name + ".partial")


def fresh_partial(root: Path) -> Path:
    """An empty folder for downloads: what a killed run left there is of no use. Blocking. Raises OSError."""
    partial = partial_path(root)
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(mode=0o700, parents=True)
    return partial


async def prepare(root: Path) -> None:
    """Make the volume's directory, empty and owned by the job, unless it is there. Raises DataError.

    The folders above it are made closed to everyone but the service.
    """
    with disk.faults(f"volume {root.name}"):
        await disk.run(_prepare, root)


async def settle(root: Path) -> None:
    """Wait until all that was written to the volume would outlive a power cut. Raises DataError."""
    with disk.faults(f"volume {root.name}"):
        await disk.run(_settle, root)


def _settle(root: Path) -> None:
    with beneath.opened_root(root) as fd:
        beneath.settle(fd)


def _prepare(root: Path) -> None:
    for _ in range(_RACES):
        try:
            root.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            root.mkdir(mode=0o755, exist_ok=True)
            break
        except FileNotFoundError:  # a sweep took a folder away that was still empty
            continue
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        beneath.own(fd, 0o755)
    finally:
        os.close(fd)

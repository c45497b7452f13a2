"""Files that must outlive a power cut, and that several processes may make at the same time."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path


def settle(folder: Path) -> None:
    """Return when the names in a folder are safe on the disk. Raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_once(path: Path, data: bytes, mode: int = 0o644) -> bytes:
    """Write a new file so that it is there whole or not at all, and its folder with it; of several that do so
    the first counts. What is there afterwards, safe on the disk. Raises `OSError`.
    """
    new = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own: a draft that a killed process left, maybe of our own pid, must not be in the way.
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
    for folder in (path.parent, *(each.parent for each in new)):
        settle(folder)
    return path.read_bytes()

"""Small disks of a test's own, to be filled: a tmpfs, unmounted when the test is over."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MIB = 1024**2


@contextmanager
def small_disk(size_mib: int) -> Iterator[Path]:
    """A file system of that size, with a short path that every user can go through. Needs root."""
    at = Path(tempfile.mkdtemp(prefix="jobyard-disk-"))
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m,mode=0755", "jobyard-test", str(at)]
    subprocess.run(command, check=True)
    try:
        yield at
    finally:
        # Lazily: a container's mount of it may be on its way out.
        subprocess.run(["umount", "--lazy", str(at)], check=True)
        at.rmdir()


def free_bytes(disk: Path) -> int:
    said = os.statvfs(disk)
    return said.f_bavail * said.f_frsize


class Ballast:
    """A file that takes what is free of a disk; `drop` gives it back."""

    def __init__(self, disk: Path) -> None:
        self._disk = disk
        self._file = disk / "ballast"

    def leave(self, left_bytes: int) -> None:
        """Take all but that much."""
        with self._file.open("ab") as file:
            more = free_bytes(self._disk) - left_bytes
            os.posix_fallocate(file.fileno(), 0, file.seek(0, os.SEEK_END) + more)

    def leave_nothing(self) -> None:
        """Take every last byte, whatever else is being written meanwhile."""
        with self._file.open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(64 * 1024))
            except OSError:
                return

    def drop(self) -> None:
        self._file.unlink()

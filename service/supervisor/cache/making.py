"""A generation on its way: a folder under a lock, that gets its name when it is complete and on the disk.

The lock is the kernel's, on the folder itself: whoever dies lets go of it, and what a killed process left is
gone on with. One that was stopped and has lost the engine keeps it, and nobody touches its folder.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from pathlib import Path

from service.files import settle
from service.supervisor.cache import record as records
from service.supervisor.cache.entry import FILES, MAKING, named, numbers
from service.supervisor.cache.record import Held, Record, Whole
from service.supervisor.data.volume import beneath, manifest
from service.supervisor.data.volume.layout import manifest_path, partial_path
from service.supervisor.data.volume.manifest import ARCHIVE

RECORD = "record.json"


class Making:
    """All methods block, and raise OSError. Whatever becomes of them, `close` comes last."""

    def __init__(self, entry: Path) -> None:
        self._entry = entry
        self._fd = -1
        self.is_published = False

    def open(self, *, resumes: bool) -> None:
        """Take over what a killed attempt left, if it can be gone on with; else begin anew."""
        self._path, self._fd = _taken(self._entry)
        if not resumes:
            _clear(self._path)
        self.root.mkdir(mode=0o755, exist_ok=True)
        manifest_path(self.root).unlink(missing_ok=True)

    @property
    def root(self) -> Path:
        """What jobs will see."""
        return self._path / FILES

    def publish(
        self, origin: tuple[str, ...], folders: tuple[str, ...], etag: str, notes: tuple[str, ...]
    ) -> tuple[int, Record]:
        """Seal what is in `root`, record it, and give it the next number."""
        record = _record(self.root, origin, folders, etag, notes)
        seal(self.root)
        manifest_path(self.root).unlink(missing_ok=True)
        if partial_path(self.root).exists():
            shutil.rmtree(partial_path(self.root))
        records.save(self._path / RECORD, record)
        beneath.settle(self._fd)
        number = max(numbers(self._entry), default=0)
        while True:
            number += 1
            try:
                self._path.rename(self._entry / str(number))
                break
            except OSError:
                if not (self._entry / str(number)).exists():
                    raise
        self.is_published = True
        settle(self._entry)
        return number, record

    def discard(self) -> None:
        if self._fd >= 0 and not self.is_published:
            shutil.rmtree(self._path)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _taken(entry: Path) -> tuple[Path, int]:
    for path in named(entry, MAKING):
        fd = locked(path)
        if fd is not None:
            return path, fd
    path = entry / f"{MAKING}{secrets.token_hex(4)}"
    path.mkdir(mode=0o700)
    fd = locked(path)
    if fd is None:
        raise OSError(f"{path.name} was taken at once")
    return path, fd


def locked(path: Path) -> int | None:
    """A descriptor that holds the lock of a folder, until it is closed; None while another holds it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.stat().st_ino == os.fstat(fd).st_ino:
            return fd
    except (BlockingIOError, FileNotFoundError):
        pass  # somebody is at it, or has just given it its name
    os.close(fd)
    return None


def _clear(path: Path) -> None:
    for below in path.iterdir():
        if below.is_dir():
            shutil.rmtree(below)
        else:
            below.unlink()


def seal(root: Path) -> None:
    """Everything becomes the service's own: jobs may read it, and could not write it if they had a way."""
    for above, _, names, fd in os.fwalk(root):
        for name in names:
            _own(os.stat(name, dir_fd=fd, follow_symlinks=False), name, fd)
        _own(os.fstat(fd), above, None)


def _own(found: os.stat_result, name: str, fd: int | None) -> None:
    if os.geteuid() == 0 and (found.st_uid, found.st_gid) != (0, 0):
        os.chown(name, 0, 0, dir_fd=fd, follow_symlinks=False)


def _record(
    root: Path, origin: tuple[str, ...], folders: tuple[str, ...], etag: str, notes: tuple[str, ...]
) -> Record:
    """What the pull wrote down, which is about one place or, of an archive that is not there, none."""
    places = manifest.load(root).places
    place = places[0] if places else manifest.Place("", "", "", {})
    known = dict(place.files)
    whole = known.pop(ARCHIVE, None)
    return Record(
        origin=origin,
        place=(place.endpoint, place.container, place.prefix),
        files={path: Held(entry.size, entry.etag, entry.mtime_ns) for path, entry in known.items()},
        folders=folders,
        archive=Whole(whole.size, whole.etag) if whole else None,
        etag=etag,
        notes=notes,
    )

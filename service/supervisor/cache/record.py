"""What a generation holds, and what its source said of it: enough to know whether the source has changed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec
import structlog

from service.errors import DataError
from service.supervisor.data.model import JOBS_LIMIT, Limits, ObjectInfo
from service.supervisor.data.progress import Progress
from service.supervisor.data.volume import beneath

VERSION = 1

_log = structlog.get_logger()


class Held(msgspec.Struct, frozen=True, array_like=True):
    """A file, and the ETag of what it came from. Nobody but us can change it: no job has a name of it that
    can be written to. So size and time tell whether it is whole."""

    size: int
    etag: str
    mtime_ns: int

    def agrees(self, info: ObjectInfo) -> bool:
        """True when the object was not replaced since."""
        return self.size == info.size and self.etag == info.etag and bool(self.etag)

    def describes(self, found: os.stat_result) -> bool:
        return stat.S_ISREG(found.st_mode) and (self.size, self.mtime_ns) == (
            found.st_size,
            found.st_mtime_ns,
        )


class Whole(msgspec.Struct, frozen=True, array_like=True):
    """The one object that an archive is."""

    size: int
    etag: str


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """`place` is what a volume's manifest calls the source; `etag` that of a URL; `notes` what was worth
    telling when it was pulled."""

    version: int = VERSION
    origin: tuple[str, ...]
    place: tuple[str, str, str]
    files: dict[str, Held]
    folders: tuple[str, ...] = ()
    archive: Whole | None = None
    etag: str = ""
    notes: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        return sum(held.size for held in self.files.values())

    def check(self, limits: Limits) -> None:
        """Raise DataError unless a volume with these limits may hold it: another's limits let it in."""
        if len(self.files) > limits.max_objects:
            raise DataError(f"it holds more than {limits.max_objects} files")
        if self.size_bytes > limits.max_bytes:
            raise DataError(f"it holds more than {limits.max_bytes} bytes{JOBS_LIMIT}")

    def unmoved(self) -> Progress:
        """A pull of it that had nothing to fetch."""
        count = len(self.files)
        return Progress(
            total=count, processed=count, skipped=count, total_bytes=self.size_bytes, notes=self.notes
        )


def load(path: Path, origin: tuple[str, ...]) -> Record | None:
    """The record of a generation of `origin`; None where there is none that can be relied on. Blocking."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Record)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        _log.warning("cache record unreadable", path=str(path), error=str(error))
        return None
    return found if (found.version, found.origin) == (VERSION, origin) else None


def save(path: Path, record: Record) -> None:
    """Write the record of a generation that has no name yet. Blocking. Raises OSError."""
    with path.open("wb") as file:
        file.write(msgspec.json.encode(record))
        file.flush()
        os.fsync(file.fileno())


class Inspection:
    """Whether all that the record tells of is there, whole. `steps` does the blocking work."""

    def __init__(self, files: Path, record: Record) -> None:
        self._files = files
        self._record = record
        self.damaged = ""

    def steps(self) -> Iterator[None]:
        try:
            with beneath.opened_root(self._files) as root_fd:
                for path, held in self._record.files.items():
                    if not held.describes(os.stat(path, dir_fd=root_fd, follow_symlinks=False)):
                        self.damaged = path
                        return
                    yield
                for path in self._record.folders:
                    os.stat(path, dir_fd=root_fd, follow_symlinks=False)
                    yield
        except (FileNotFoundError, NotADirectoryError) as error:
            self.damaged = str(error.filename or self._files)

"""Which generation a run has mounted: a file beside the run's volume, there before its container is made.

It is what a restart mounts again, and what keeps the generation from being evicted. Blocking.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import msgspec

from service.errors import DataError
from service.files import settle
from service.supervisor.cache.entry import Key, Version
from service.supervisor.names import RunId

SUFFIX = ".cached"


class _Mark(msgspec.Struct):
    project: str
    digest: str
    generation: int


def _path(root: Path) -> Path:
    return root.with_name(root.name + SUFFIX)


def write(root: Path, version: Version) -> None:
    """The run mounts this generation in the place of its volume `root`, for good. Raises OSError."""
    path = _path(root)
    written = path.with_name(path.name + ".new")
    with written.open("wb") as file:
        file.write(msgspec.json.encode(_Mark(version.key.project, version.key.digest, version.number)))
        file.flush()
        os.fsync(file.fileno())
    written.replace(path)
    settle(path.parent)


def clear(root: Path) -> None:
    """The run mounts a volume of its own after all."""
    _path(root).unlink(missing_ok=True)


def read(root: Path) -> Version | None:
    """What the run mounts in the place of its volume `root`; None: that volume. Raises DataError."""
    return _read(_path(root))


def _read(path: Path) -> Version | None:
    try:
        mark = msgspec.json.decode(path.read_bytes(), type=_Mark)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        why = error.strerror if isinstance(error, OSError) else error  # where it lies is not for users
        raise DataError(f"{path.name} of run {path.parent.parent.name}/{path.parent.name}: {why}") from error
    return Version(Key(mark.project, mark.digest), mark.generation)


def all_marks(volumes_dir: Path) -> Iterator[tuple[RunId, Version]]:
    """The marks of all runs that have something on the disk. Raises DataError: then nobody knows all."""
    for path in volumes_dir.glob(f"*/*/*{SUFFIX}"):
        try:
            run = RunId(UUID(path.parent.parent.name), int(path.parent.name))
        except ValueError:
            continue  # no run's: `volumes.runs_on_disk` warns of it
        version = _read(path)
        if version is not None:
            yield run, version

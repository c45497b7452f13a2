"""What is free of the node's disks and memory, as the machine says at this moment."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import structlog

from service.domain.room import Level, Place

_log = structlog.get_logger()

_MEMINFO = Path("/proc/meminfo")


def read(places: Iterable[tuple[Place, Path]]) -> list[Level]:
    """Each file system once, by the first place on it, and the memory.

    A place that is not there yet counts where it will be made. One that cannot be looked at is left out: what
    is placed there then fails by itself, and says so.
    """
    found: dict[int, Level] = {}
    for place, path in places:
        try:
            there = _nearest(path)
            device = there.stat().st_dev
            if device not in found:
                found[device] = _disk(place, there)
        except OSError as error:
            _log.warning("a disk cannot be looked at", place=place, error=error.strerror)
    memory = _memory()
    return [*found.values(), *([memory] if memory else [])]


def _nearest(path: Path) -> Path:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _disk(place: Place, path: Path) -> Level:
    said = os.statvfs(path)
    return Level(
        place,
        free_bytes=said.f_bavail * said.f_frsize,
        total_bytes=said.f_blocks * said.f_frsize,
        free_files=said.f_favail,
        files=said.f_files,
    )


def _memory() -> Level | None:
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError as error:
        _log.warning("the memory cannot be looked at", error=error.strerror)
        return None
    sizes = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}
    return Level("memory", sizes["MemAvailable"], sizes["MemTotal"])

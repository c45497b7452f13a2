"""Whether the node has room to begin runs: its free disk and memory against what is kept in reserve. Pure.

What runs needs some of it to end well: its log's end, the data that it wrote, the ledger itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from service.domain.events import Info
from service.domain.sizes import binary

#: `state`: data and logs of jobs; `cache`: what jobs share; `engine`: images and containers.
Place = Literal["state", "cache", "engine", "memory"]

DISK_FULL = "node-disk-full"
MEMORY_FULL = "node-memory-full"

_GIB = 1024**3
_HOLDS: dict[Place, str] = {
    "state": "the data and logs of jobs",
    "cache": "the cache of jobs' data",
    "engine": "images and containers",
}


@dataclass(frozen=True)
class Level:
    """How much of a place is free, in bytes, and of its files; `files` is 0 where they are not counted."""

    place: Place
    free_bytes: int
    total_bytes: int
    free_files: int = 0
    files: int = 0


@dataclass(frozen=True)
class Reserve:
    """What must be free for a run to begin, in bytes; None: the smaller of a twentieth and a fixed size."""

    disk_bytes: int | None = None
    memory_bytes: int | None = None

    def of(self, level: Level) -> int:
        """For this place, in bytes."""
        memory = level.place == "memory"
        given = self.memory_bytes if memory else self.disk_bytes
        return min(level.total_bytes // 20, _GIB // 2 if memory else 2 * _GIB) if given is None else given


def judged(levels: Iterable[Level], reserve: Reserve, node: str, stopped: Info | None) -> Info | None:
    """Why no run may begin, or None. `stopped` is what was said last: that is over only when a quarter more
    than the reserve is free, so that it does not come and go with every file."""
    found: Info | None = None
    for level in levels:
        least = reserve.of(level)
        said = _full(level, least, node)
        if said == stopped and _short(level, least + least // 4, of_files=80):
            return stopped
        if found is None and _short(level, least, of_files=100):
            found = said
    return found


def _short(level: Level, least: int, *, of_files: int) -> bool:
    return level.free_bytes < least or level.free_files * of_files < level.files


def _full(level: Level, least: int, node: str) -> Info:
    """Only what stays the same while it lasts, so that the ledger is not filled with countdowns."""
    arguments: dict[str, str | int] = {"node": node, "place": level.place, "reserve": least}
    if level.place == "memory":
        message = f"Node {node} is short of memory: less than {binary(least)} is available."
        return Info(MEMORY_FULL, f"{message} No run begins until there is more.", dict(arguments))
    message = f"The disk of node {node} for {_HOLDS[level.place]} is nearly full: less than {binary(least)} "
    message += "or a hundredth of its files is free. No run begins until there is more."
    return Info(DISK_FULL, message, dict(arguments))

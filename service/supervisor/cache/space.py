"""Who is in the cache, how much it holds, and what goes: never what a live run has or is about to have.

One lock, `_turn`, orders coming in and throwing out. A pull counts as inside its entry (`inside`) until the
run that it is for has its mark on the disk. Throwing out looks first who is inside, then at the marks, and
renames what it took before anybody else may come in; the deleting is done afterwards.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Set
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog

from service.errors import DataError, Unavailable
from service.supervisor.cache import marks
from service.supervisor.cache.choice import Doomed, Seen, by_age, by_space
from service.supervisor.cache.entry import (
    GONE,
    MAKING,
    USED,
    Key,
    Version,
    entries,
    entry_dir,
    named,
    numbers,
    touch,
    used_ns,
)
from service.supervisor.cache.making import locked
from service.supervisor.cache.measure import Measure
from service.supervisor.data import disk
from service.supervisor.names import RunId

SHARE_OF_DISK = 5
"""Without a bound of its own the cache may have one part in so many of its file system."""

_log = structlog.get_logger()


@dataclass(frozen=True)
class Bounds:
    """`max_age_s` without a job using it; `max_bytes` of blocks on the disk, None for a share of it, 0
    for no cache."""

    max_age_s: float
    max_bytes: int | None

    def bytes_on(self, root: Path) -> int:
        """The bound in bytes for a cache in this folder. Blocking."""
        if self.max_bytes is not None:
            return self.max_bytes
        found = os.statvfs(root)
        return found.f_blocks * found.f_frsize // SHARE_OF_DISK


class Space:
    """The cache's folder. Raises DataError of the disk, and what its callables raise."""

    def __init__(
        self,
        root: Path,
        volumes_dir: Path,
        bounds: Bounds,
        *,
        is_over: Callable[[RunId], Awaitable[bool]],
        still_ours: Callable[[], Awaitable[None]],
        now_ns: Callable[[], int],
    ) -> None:
        self.root = root
        self.bounds = bounds
        self.now_ns = now_ns
        self.measure = Measure(root)
        self._volumes_dir = volumes_dir
        self._is_over = is_over
        self._still_ours = still_ours
        self._turn = asyncio.Lock()
        self._tidying = asyncio.Lock()
        self._inside: Counter[Key] = Counter()
        self._reserved: dict[Key, int] = {}

    @asynccontextmanager
    async def inside(self, key: Key) -> AsyncIterator[Path]:
        """The entry's folder, of which nothing is thrown out while the context lasts."""
        async with self._turn:
            self._inside[key] += 1
        try:
            folder = entry_dir(self.root, key)
            with disk.faults("the node's cache"):
                await disk.run(_enter, self.root, folder, self.now_ns())
            yield folder
        finally:
            self._inside[key] -= 1
            if not self._inside[key]:
                del self._inside[key]

    async def reserve(self, key: Key, size: int) -> bool:
        """Whether `size` more bytes fit, after whatever may go has gone. They count until `release`.

        When the ledger cannot be asked what may go, nothing does.
        """
        coming = {key: size}
        if await self._fits(coming):
            return True
        try:
            return await self._tidy(coming)
        except Unavailable as error:
            _log.warning("no room is made in the cache", error=error.message)
            return False

    def release(self, key: Key) -> None:
        self._reserved.pop(key, None)

    async def tidy(self) -> None:
        """Throw out what is old, outdated, or too much."""
        if await disk.run(self.root.exists):
            await self._tidy({})

    async def _fits(self, coming: dict[Key, int]) -> bool:
        with disk.faults("the node's cache"):
            async with self._tidying, self._turn:
                fits = await disk.run(self.fits, self._reserved | coming)
                if fits:
                    self._reserved |= coming
                return fits

    def total(self, reserved: Mapping[Key, int]) -> int:
        """All that is there, and all that is to come: of what is being made, what it will be. Blocking."""
        return self.measure.all(entries(self.root), reserved.keys()) + sum(reserved.values())

    def fits(self, reserved: Mapping[Key, int]) -> bool:
        """Blocking."""
        return 0 < self.bounds.bytes_on(self.root) >= self.total(reserved)

    async def _tidy(self, coming: dict[Key, int]) -> bool:
        with disk.faults("the node's cache"):
            async with self._tidying:
                over = await self._runs_over()
                # Measured before anybody is kept waiting: the first time it may take long.
                await disk.run(self.total, self._reserved | coming)
                await self._still_ours()
                async with self._turn:
                    # First who is inside, then the marks: whoever left in between has its mark by now.
                    judge = _Judge(self, set(self._inside), over, self._reserved | coming)
                    fits = await disk.run(judge.run)
                    if fits:
                        self._reserved |= coming
                for doomed in judge.doomed:
                    _log.info("cache evicted", **doomed.facts)
                for path in await disk.run(self._gone):
                    await disk.run(shutil.rmtree, path)
                async with self._turn:
                    await disk.run(_leave_empty, self.root, set(self._inside))
        return fits

    async def _runs_over(self) -> set[RunId]:
        """The runs with marks that are over: once over, they stay so."""
        runs = {run for run, _ in await disk.run(self.marks) or ()}
        return {run for run in runs if await self._is_over(run)}

    def marks(self) -> list[tuple[RunId, Version]] | None:
        """The marks of all runs on the disk; None when one cannot be read, so that nobody knows. Blocking."""
        try:
            return list(marks.all_marks(self._volumes_dir))
        except DataError as error:
            _log.warning("nothing is evicted from the cache", error=error.message)
            return None

    def _gone(self) -> list[Path]:
        return [path for key in entries(self.root) for path in named(entry_dir(self.root, key), GONE)]


class _Judge:
    """Decides and renames, in a disk thread, while nobody comes in."""

    def __init__(self, space: Space, inside: Set[Key], over: Set[RunId], reserved: Mapping[Key, int]) -> None:
        self._root = space.root
        self._space = space
        self._inside = inside
        self._over = over
        self._reserved = reserved
        self._now_ns = space.now_ns()  # here, on the loop, whose clock it is
        self.doomed: list[Doomed] = []

    def run(self) -> bool:
        """True when all that is to come fits now."""
        bounds, now_ns = self._space.bounds, self._now_ns
        known = self._space.marks()
        used = None if known is None else {version for run, version in known if run not in self._over}
        self._rename(by_age(self._seen(used, now_ns), now_ns, bounds.max_age_s))
        excess = self._space.total(self._reserved) - bounds.bytes_on(self._root)
        self._rename(by_space(self._seen(used, now_ns), excess))
        return self._space.fits(self._reserved)

    def _seen(self, used: Set[Version] | None, now_ns: int) -> list[Seen]:
        return [self._see(key, used, now_ns) for key in entries(self._root)]

    def _see(self, key: Key, used: Set[Version] | None, now_ns: int) -> Seen:
        folder = entry_dir(self._root, key)
        found = numbers(folder)
        in_use = frozenset(number for number in found if used is None or Version(key, number) in used)
        if in_use:
            touch(folder, now_ns)
        busy = key in self._inside
        leftovers = [] if busy else named(folder, MAKING)  # one at work may get its name at this moment
        return Seen(
            key=key,
            is_busy=busy,
            used_ns=used_ns(folder),
            numbers=tuple(found),
            in_use=in_use,
            leftovers={path.name: path.stat().st_mtime_ns for path in leftovers},
            size_of=partial(self._space.measure.freed, key),
        )

    def _rename(self, doomed: list[Doomed]) -> None:
        for each in doomed:
            folder = entry_dir(self._root, each.key)
            path = folder / each.name
            if each.name.startswith(MAKING):
                fd = locked(path)
                if fd is None:
                    continue  # of a process that has lost the engine, and lives
                os.close(fd)
            path.rename(folder / f"{GONE}{secrets.token_hex(4)}")
            self.doomed.append(each)


def _leave_empty(root: Path, inside: Set[Key]) -> None:
    """Remove the folders of entries that have nothing any more."""
    for key in list(entries(root)):
        folder = entry_dir(root, key)
        if key not in inside and {path.name for path in folder.iterdir()} <= {USED}:
            (folder / USED).unlink(missing_ok=True)
            folder.rmdir()
    busy = {key.project for key in inside}
    for project in root.iterdir():
        if project.name not in busy and project.is_dir() and not any(project.iterdir()):
            project.rmdir()


def _enter(root: Path, folder: Path, now_ns: int) -> None:
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    touch(folder, now_ns)

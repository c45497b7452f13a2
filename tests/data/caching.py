"""A cache, runs that have something of it, and a store that counts what is read from it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from service.supervisor.cache import Cache, Generation, Objects, Origin, marks
from service.supervisor.cache.cache import Got
from service.supervisor.cache.entry import Version, files_dir
from service.supervisor.cache.space import Bounds, Space
from service.supervisor.data import DEFAULT_LIMITS, Limits, ObjectInfo, Progress, Source, Store
from service.supervisor.names import RunId
from tests.data.sync import files

DAY_NS = 86_400 * 10**9
GIB = 1024**3


class Reads(Store):
    """A real store; `read` has the key of each object, or part of one, that was fetched. `hold` stops each
    fetch where a test wants it to: `reached` is set when one is there, `go` lets them on."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.read: list[str] = []
        self.hold = ""
        self.reached = asyncio.Event()
        self.go = asyncio.Event()

    async def get(
        self, container: str, expected: ObjectInfo, *, offset: int = 0, length: int | None = None
    ) -> Sequence[bytes]:
        await self._reads(expected)
        return await super().get(container, expected, offset=offset, length=length)

    async def stretch(self, container: str, expected: ObjectInfo, **what: Any) -> bool:
        await self._reads(expected)
        return await super().stretch(container, expected, **what)

    async def _reads(self, expected: ObjectInfo) -> None:
        if expected.key == self.hold:
            self.reached.set()
            await self.go.wait()
        self.read.append(expected.key)


class Node:
    """The cache of a node, and the runs on it."""

    def __init__(self, state: Path, *, max_bytes: int | None = GIB, max_age_s: float = 7 * 86_400) -> None:
        self.volumes = state / "volumes"
        self.root = state / "cache"
        self.over: set[RunId] = set()
        self.now_ns = 1_000 * DAY_NS
        self.space = Space(
            self.root,
            self.volumes,
            Bounds(max_age_s, max_bytes),
            is_over=self._is_over,
            still_ours=self._still_ours,
            now_ns=lambda: self.now_ns,
        )
        self.cache = Cache(self.space)

    async def _is_over(self, run: RunId) -> bool:
        await asyncio.sleep(0)
        return run in self.over

    async def _still_ours(self) -> None:
        await asyncio.sleep(0)

    async def take(
        self,
        origin: Origin,
        *,
        project: str = "alpha",
        run: RunId | None = None,
        heard: list[Progress] | None = None,
    ) -> Got:
        """What the origin holds, marked as the run's if one is given."""
        told = [] if heard is None else heard
        async with self.cache.generation(project, run or a_run(), origin, told.append) as got:
            assert got is not None, "the cache has no room"
            if run is not None:
                mark(self.volume(run), got.generation)
        return got

    async def objects(self, store: Store, source: Source, limits: Limits = DEFAULT_LIMITS, **how: Any) -> Got:
        return await self.take(Objects(store, source, limits, 8), **how)

    def volume(self, run: RunId) -> Path:
        root = self.volumes / str(run.job) / str(run.run) / "0"
        root.mkdir(parents=True, exist_ok=True)
        return root

    def there(self) -> list[str]:
        """The generations and leftovers of all entries, by entry."""
        return sorted(path.name for path in self.root.glob("*/*/*/"))

    def half(self) -> set[str]:
        """The files of the generations that are on their way."""
        return {path for root in self.root.glob("*/*/making-*/files") for path in files(root)}

    def has(self, version: Version) -> bool:
        return files_dir(self.root, version).exists()


def a_run() -> RunId:
    return RunId(uuid4(), 1)


def mark(root: Path, generation: Generation) -> None:
    marks.write(root, generation.version)

"""The way into the cache: the newest generation of a source, made or refreshed once for all who ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from msgspec.structs import replace

from service.errors import Unavailable
from service.supervisor.cache import record as records
from service.supervisor.cache.entry import Generation, Key, Version, files_dir, numbers
from service.supervisor.cache.making import RECORD, Making
from service.supervisor.cache.origins import OnProgress, Origin
from service.supervisor.cache.record import Inspection
from service.supervisor.cache.space import Space
from service.supervisor.data import disk
from service.supervisor.data.progress import Progress
from service.supervisor.names import RunId

WAITS = "another job of the project is pulling the same; what it has pulled counts as unchanged here"

_log = structlog.get_logger()


@dataclass(frozen=True)
class Got:
    """A generation, and how it came: `is_new` when it was made for this very request."""

    generation: Generation
    progress: Progress
    is_new: bool


@dataclass
class _Flight:
    """An entry while somebody is inside: one at a time makes a generation, the others hear how far it is."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    passengers: int = 0
    waiting: list[OnProgress] = field(default_factory=list)

    def heard(self, progress: Progress) -> None:
        for on_progress in self.waiting:
            on_progress(
                Progress(
                    total=progress.total,
                    processed=progress.processed,
                    skipped=progress.processed,
                    total_bytes=progress.total_bytes,
                    notes=(WAITS,),
                )
            )


class Cache:
    """What the node holds for its projects. Safe to use from many tasks of one event loop."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._flights: dict[Key, _Flight] = {}

    async def tidy(self) -> None:
        """Evict what is old, outdated or too much. Raises DataError, and Unavailable from the ledger."""
        await self._space.tidy()

    @asynccontextmanager
    async def generation(
        self, project: str, run: RunId, origin: Origin, on_progress: OnProgress
    ) -> AsyncIterator[Got | None]:
        """For a run, what `origin` holds now; None when the cache has no room for it.

        While the context lasts nobody evicts it. Raises as a pull of the origin; it can then be called again,
        and fetches only what is missing.
        """
        key = Key.of(project, origin.name)
        async with self._space.inside(key) as entry:
            flight = self._flights.setdefault(key, _Flight())
            flight.passengers += 1
            try:
                with disk.faults("the node's cache"):
                    got = await _Visit(self._space, flight, key, run, entry, origin, on_progress).run()
                yield got
            finally:
                flight.passengers -= 1
                if not flight.passengers:
                    del self._flights[key]


class _Visit:
    """One job's way through an entry."""

    def __init__(
        self,
        space: Space,
        flight: _Flight,
        key: Key,
        run: RunId,
        entry: Path,
        origin: Origin,
        on_progress: OnProgress,
    ) -> None:
        self._space = space
        self._flight = flight
        self._key = key
        self._run = run
        self._entry = entry
        self._origin = origin
        self._on_progress = on_progress

    async def run(self) -> Got | None:
        await self._origin.look()
        newest = await self._newest()
        if await self._holds(newest):
            return await self._hit(newest)
        async with self._alone() as waited:
            again = await self._newest()
            if waited and not (again and self._origin.is_in(again.record)):
                await self._origin.look()  # what was seen may be older than what is there now
            is_new = again is not None and again.version != (newest and newest.version)
            if is_new and await self._holds(again):
                return await self._hit(again)
            return await self._refreshed(again)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[bool]:
        """One at a time; True when another was before us."""
        waited = self._flight.turn.locked()
        self._flight.waiting.append(self._on_progress)
        try:
            await self._flight.turn.acquire()
        finally:
            self._flight.waiting.remove(self._on_progress)
        try:
            yield waited
        finally:
            self._flight.turn.release()

    async def _newest(self) -> Generation | None:
        """The newest generation that has a record of this source."""
        return await disk.run(self._read)

    def _read(self) -> Generation | None:
        for number in reversed(numbers(self._entry)):
            version = Version(self._key, number)
            found = records.load(self._entry / str(number) / RECORD, self._origin.name)
            if found is not None:
                ours = replace(found, place=self._origin.place)  # it may have been pulled with others' keys
                return Generation(version, files_dir(self._entry.parent.parent, version), ours)
        return None

    async def _holds(self, generation: Generation | None) -> bool:
        if generation is None or not self._origin.is_in(generation.record):
            return False
        return await self._is_whole(generation)

    async def _is_whole(self, generation: Generation) -> bool:
        inspection = Inspection(generation.files, generation.record)
        await disk.in_slices(inspection.steps())
        if inspection.damaged:
            _log.warning("cache damaged", **self._facts(generation), path=inspection.damaged)
        return not inspection.damaged

    async def _hit(self, generation: Generation | None) -> Got:
        if generation is None:
            raise AssertionError("unreachable: nothing holds what is there")
        await self._origin.admit(generation.record)
        done = generation.record.unmoved()
        self._on_progress(done)
        _log.info("cache hit", **self._facts(generation), objects=done.total, size_bytes=done.total_bytes)
        return Got(generation, done, is_new=False)

    async def _refreshed(self, base: Generation | None) -> Got | None:
        origin = self._origin
        if base is not None and not origin.resumes and not await self._is_whole(base):
            base = None  # nothing of it could be linked, and "unchanged" must not lead to it
        needs = origin.needs(base)
        try:
            if await self._space.reserve(self._key, needs):
                return await self._made(Making(self._entry), base)
        finally:
            self._space.release(self._key)
        _log.info("cache full", **self._facts(), bytes=needs)
        return None

    async def _made(self, making: Making, base: Generation | None) -> Got:
        keep = False
        try:
            await disk.run(making.open, resumes=self._origin.resumes)
            done = await self._origin.make(making.root, base, self._heard)
            if done is None and base is not None:
                return await self._hit(base)
            if done is None or done.failed:
                raise Unavailable("the node's cache could not be filled: something was in the way")
            made = await self._published(making, done)
            _log.info(
                "cache refreshed",
                **self._facts(made),
                fetched=done.completed,
                linked=done.skipped,
                bytes=done.transferred_bytes,
            )
            return Got(made, done, is_new=True)
        except (Unavailable, asyncio.CancelledError):
            keep = self._origin.resumes
            raise
        finally:
            try:
                if not keep:
                    await disk.run(making.discard)
            finally:
                await disk.run(making.close)

    async def _published(self, making: Making, done: Progress) -> Generation:
        number, found = await disk.run(
            making.publish, self._origin.name, self._origin.folders, self._origin.etag, done.notes
        )
        version = Version(self._key, number)
        return Generation(version, files_dir(self._entry.parent.parent, version), found)

    def _heard(self, progress: Progress) -> None:
        self._on_progress(progress)
        self._flight.heard(progress)

    def _facts(self, generation: Generation | None = None) -> dict[str, str | int]:
        facts: dict[str, str | int] = {
            "job": str(self._run.job),
            "run": self._run.run,
            "project": self._key.project,
            "entry": self._key.digest,
            "source": self._origin.shown,
        }
        return facts if generation is None else facts | {"generation": generation.version.number}

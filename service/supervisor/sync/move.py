"""One volume of a synchronisation, tried again while its store or server does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypedDict

from msgspec.structs import replace

from service.domain.directory import DataStore
from service.domain.events import Direction, Info, Value
from service.domain.job import Job
from service.domain.room import DISK_FULL
from service.domain.spec import Permission, Place, Volume, Web
from service.domain.weburls import shown_url
from service.errors import DataError, DiskFull, JobyardError, Unavailable
from service.supervisor.cache import Archive, Objects, Origin, Url, marks
from service.supervisor.cache.copying import copy
from service.supervisor.data import disk, fetch
from service.supervisor.data.archive.pull import pull_archive
from service.supervisor.data.archive.push import push_archive
from service.supervisor.data.git.reach import Remote
from service.supervisor.data.git.repository import fetch_repository
from service.supervisor.data.model import Limits, Source, StoreAccess
from service.supervisor.data.progress import Progress
from service.supervisor.data.pull import pull
from service.supervisor.data.push import push
from service.supervisor.data.s3.store import Store
from service.supervisor.data.volume import manifest
from service.supervisor.data.web import Web as Reach
from service.supervisor.effects import FatalForRun, Yard
from service.supervisor.names import RunId
from service.supervisor.store_keys import access_of, remote_of
from service.supervisor.volumes import volume_root
from service.supervisor.waits import LONGEST_RETRY_S, pause_s
from service.tasks import whole

MAX_DEPTH = 64
NO_ROOM = "the node's cache has no room for it: it was pulled for this job alone"


@dataclass(frozen=True)
class Wanted:
    """A volume, by its index in the specification, and the place it is moved from or to."""

    index: int
    volume: Volume
    place: Place | Web


class _How(TypedDict):
    """What every move is told."""

    limits: Limits
    on_progress: Callable[[Progress], None]


class Move:
    """One volume on its way; so many volumes move beside it."""

    def __init__(
        self,
        yard: Yard,
        job: Job,
        direction: Direction,
        wanted: Wanted,
        on_progress: Callable[[Progress], None],
        beside: int,
        *,
        by_cache: bool,
        noted: bool,
    ) -> None:
        """`noted`: the job waits for this, so its reason says when the store does not answer."""
        self._yard = yard
        self._job = job
        self._direction: Direction = direction
        self._wanted = wanted
        self._by_cache = by_cache
        self._noted = noted
        self._run = RunId(job.id, job.run)
        self._root = volume_root(yard, self._run, wanted.index)
        self._concurrency = max(1, yard.settings.data_concurrency // beside)
        limits = Limits(
            max_objects=yard.settings.volume_max_objects,
            max_bytes=job.spec.resources.ephemeral_storage,
            max_depth=MAX_DEPTH,
            # What a run wrote is its user's, also if it was too much and nobody saw it in time.
            beyond_disk=direction == "push",
        )
        self._how = _How(limits=limits, on_progress=on_progress)

    async def run(self) -> Progress:
        """Raises `FatalForRun` for what trying again has not mended, or will not."""
        settings, place = self._yard.settings, self._wanted.place
        if isinstance(place, Web):
            what = where = shown_url(place.url)
            move = partial(self._fetch, place)
        else:
            where = f"{place.container}@{place.alias}"
            what = f"Data store {where}"
            if place.store == "git":
                move = partial(self._clone, await self._remote(place), place)
            else:
                move = partial(self._move, await self._access(place), place)
        return await self._persistently(move, what, where, settings.store_attempts)

    async def _persistently(
        self, move: Callable[[], Coroutine[Any, Any, Progress]], what: str, where: str, attempts: int
    ) -> Progress:
        for attempt in range(1, attempts + 1):
            try:
                done = await whole(move())
                if attempt > 1:
                    await self._note("answers", f"{what} answers again; the job's data is {self._moved}.")
                return done
            except Unavailable as error:
                if attempt == attempts:
                    message = f"{what} could not be used, after {attempt} attempts: {_bare(error, where)}"
                    raise self._fatal("unavailable", message) from error
                await self._note("not-answering", f"{what} does not answer; it is tried again.")
                await asyncio.sleep(pause_s(self._yard.settings.retry_s, attempt + 1, LONGEST_RETRY_S))
            except DiskFull as error:
                if attempt == attempts:
                    message = (
                        f"{what}: the node's disk has too little space for it, after {attempt} attempts."
                    )
                    arguments: dict[str, Value] = {"mountPath": self._wanted.volume.mount_path}
                    raise FatalForRun(Info(DISK_FULL, message, arguments), ours=True) from error
                if self._noted:
                    await self._yard.note_full(self._job)
                await asyncio.sleep(pause_s(self._yard.settings.retry_s, attempt + 1, LONGEST_RETRY_S))
            except JobyardError as error:
                raise self._fatal("refused", f"{where}: {_bare(error, where)}") from error
        raise AssertionError("unreachable: the last attempt answers or raises")

    @property
    def _moved(self) -> str:
        return f"{self._direction}ed"

    async def _note(self, code: str, message: str) -> None:
        """Tell why the job waits, once for each change. Raises as `Yard.report`."""
        if self._noted:
            path = self._wanted.volume.mount_path
            await self._yard.note(
                self._job, f"data-{code}", message, direction=self._direction, mountPath=path
            )

    def _fatal(self, code: str, message: str) -> FatalForRun:
        wanted = self._wanted
        arguments: dict[str, Value] = {"volume": wanted.index, "mountPath": wanted.volume.mount_path}
        return FatalForRun(Info(f"data-{self._direction}-{code}", message, arguments))

    async def _move(self, access: StoreAccess, place: Place) -> Progress:
        async with self._yard.shelf.open(access) as store:
            await self._adopt(store)
            if not self._by_cache:
                return await self._through(store, place)
            origin: Origin
            if place.archive:
                limits, must = self._how["limits"], self._must_exist
                origin = Archive(store, place.container, place.archive, limits, must_exist=must)
            else:
                source = Source(place.container, place.prefix)
                origin = Objects(store, source, self._how["limits"], self._concurrency)
            return await self._shared(origin) or _without_cache(await self._through(store, place))

    async def _adopt(self, store: Store) -> None:
        """A volume of one store alone: so is what its record said before accounts were told apart."""
        volume = self._wanted.volume
        aliases = {place.alias for place in (volume.pull_from, volume.push_to) if isinstance(place, Place)}
        if len(aliases) == 1:
            with disk.faults("volume"):
                await disk.run(manifest.adopt, self._root, store.endpoint, store.place)

    @property
    def _must_exist(self) -> bool:
        """An archive that is pulled has to be there, unless it is the one that the push is to make."""
        return self._wanted.volume.push_to != self._wanted.place

    async def _through(self, store: Store, place: Place) -> Progress:
        """Straight between the store and the volume."""
        may: Literal["RW", "RWD"] = "RWD" if self._wanted.volume.permission is Permission.RWD else "RW"
        source, root, how = Source(place.container, place.prefix), self._root, self._how
        match self._direction, place.archive or "":
            case "pull", "":
                return await pull(store, source, root, **how, concurrency=self._concurrency)
            case "push", "":
                return await push(store, source, root, permission=may, **how, concurrency=self._concurrency)
            case "pull", key:
                return await pull_archive(
                    store, place.container, key, root, **how, must_exist=self._must_exist
                )
            case _, key:
                return await push_archive(store, place.container, key, root, permission=may, **how)

    async def _fetch(self, source: Web) -> Progress:
        """Pull a volume from a URL."""
        settings = self._yard.settings
        reach = Reach(settings.fetch_networks, settings.fetch_ca)
        if not self._by_cache:
            return await fetch.fetch(reach, source, self._root, **self._how)
        done = await self._shared(Url(reach, source, self._how["limits"]))
        return done or _without_cache(await fetch.fetch(reach, source, self._root, **self._how))

    async def _shared(self, origin: Origin) -> Progress | None:
        """Pull by way of the node's cache; None when it has no room."""
        yard, read_only = self._yard, self._wanted.volume.permission is Permission.RO
        project, run, on_progress = self._job.project, self._run, self._how["on_progress"]
        async with yard.cache.generation(project, run, origin, on_progress) as got:
            with disk.faults("volume"):
                if got is None:
                    await disk.run(marks.clear, self._root)
                    return None
                if read_only:
                    await disk.run(marks.write, self._root, got.generation.version)
                else:
                    await copy(got.generation, self._root)
        if got.is_new:
            yard.untidy.set()  # the generation before may have no user
        return got.progress

    async def _clone(self, remote: Remote, place: Place) -> Progress:
        """Pull a volume from a repository of a git store."""
        reach = Reach(self._yard.settings.fetch_networks, self._yard.settings.fetch_ca)
        return await fetch_repository(reach, remote, place.prefix, self._root, **self._how)

    async def _access(self, place: Place) -> StoreAccess:
        """Where and with which keys; asked outside of the retries, whose blame is the store's alone."""
        try:
            return await access_of(self._yard.ledger, await self._store(place))
        except DataError as error:
            raise self._fatal("refused", error.message) from error

    async def _remote(self, place: Place) -> Remote:
        """As `_access`, of a git store."""
        try:
            return await remote_of(self._yard.ledger, await self._store(place), place)
        except DataError as error:
            raise self._fatal("refused", error.message) from error

    async def _store(self, place: Place) -> DataStore:
        project = await self._yard.ledger.project(self._job.project)
        known = project.data_stores.get(place.alias) if project else None
        if known is None:
            raise self._fatal("refused", f"The project has no data store {place.alias} any more.")
        return known


def _without_cache(progress: Progress) -> Progress:
    return replace(progress, notes=(NO_ROOM, *progress.notes))


def _bare(error: JobyardError, where: str) -> str:
    """The message without the place, which is about to be named before it."""
    return error.message.removeprefix(f"{where}: ")

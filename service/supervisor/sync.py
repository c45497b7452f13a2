"""Pulling and pushing all volumes of a run, and telling the ledger how far it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias, TypedDict
from uuid import NAMESPACE_OID, uuid5

import structlog
from msgspec.structs import replace

from service.domain import commands as cmd
from service.domain.events import Direction, Info, SyncState, Value, VolumeProgress
from service.domain.job import Job, SyncOrder
from service.domain.spec import Permission, Place, Volume, Web
from service.domain.weburls import shown_url
from service.errors import DataError, JobyardError, Unavailable
from service.supervisor.data import fetch, layout
from service.supervisor.data.archive import pull_archive, push_archive
from service.supervisor.data.model import Limits, Source, StoreAccess
from service.supervisor.data.progress import Progress
from service.supervisor.data.pull import pull
from service.supervisor.data.push import push
from service.supervisor.data.web import Web as Reach
from service.supervisor.effects import FatalForRun, Yard
from service.supervisor.names import RunId
from service.supervisor.storage.own import may_move
from service.supervisor.volumes import root_of, volume_root

_log = structlog.get_logger()
_KEPT = "kept"
MAX_DEPTH = 64
_Wanted: TypeAlias = tuple[int, Volume, Place | Web]
NOTES_SAID = 3


async def pull_all(yard: Yard, job: Job) -> None:
    """Pull every volume of the run. Raises `FatalForRun`, or `Unavailable` from the ledger."""
    run = RunId(job.id, job.run)
    for index in range(len(job.spec.volumes)):
        await _on_disk(layout.prepare(root_of(yard, job, index)))
    wanted: list[_Wanted] = [
        (i, v, v.pull_from) for i, v in enumerate(job.spec.volumes) if v.pull_from is not None
    ]
    if wanted:
        await _Sync(yard, job, "pull", _sync_id(run, "pull")).run(wanted)


@dataclass(frozen=True)
class Pushed:
    """What became of a push. `problem`: it failed. `remark`: it left out what no store can hold."""

    problem: Info | None = None
    remark: Info | None = None


async def push_all(yard: Yard, job: Job, *, sync_id: str | None = None) -> Pushed:
    """Push what the run may push. `sync_id` is that of a push which a user ordered again."""
    run = RunId(job.id, job.run)
    wanted: list[_Wanted] = [
        (i, v, v.push_to) for i, v in enumerate(job.spec.volumes) if v.push_to is not None
    ]
    if not wanted:
        return Pushed()
    manual = sync_id is not None
    sync = _Sync(yard, job, "push", sync_id or _sync_id(run, "push"), manual=manual)
    try:
        await sync.run(wanted)
    except FatalForRun as fatal:
        return Pushed(problem=fatal.info)
    return Pushed(remark=_left_out(sync.notes))


def _left_out(notes: list[str]) -> Info | None:
    """One sentence for `status.info`; the rest is in `status.dataSync`."""
    if not notes:
        return None
    more = f" and {len(notes) - NOTES_SAID} more" if len(notes) > NOTES_SAID else ""
    message = f"Not everything was pushed: {'; '.join(notes[:NOTES_SAID])}{more}."
    return Info("not-all-pushed", message, {"notPushed": len(notes)})


async def move_ordered(yard: Yard, job: Job, order: SyncOrder) -> None:
    """Do what was ordered while the job runs. Raises as `pull_all`; the failure is then recorded."""
    push = order.direction == "push"
    wanted: list[_Wanted] = [
        (index, volume, place)
        for index, volume in enumerate(job.spec.volumes)
        if order.volume in (None, index)
        and (place := volume.push_to if push else volume.pull_from) is not None
    ]
    await _Sync(yard, job, order.direction, order.id, manual=True).run(wanted)


async def settle(yard: Yard, job: Job) -> None:
    """What the run wrote outlives a power cut from here on: an exit that is recorded promises its output.

    One volume stands for all: they lie on one file system, which is waited for as a whole.
    """
    wanted = [index for index, volume in enumerate(job.spec.volumes) if volume.push_to is not None]
    if wanted:
        await _on_disk(layout.settle(volume_root(yard, RunId(job.id, job.run), wanted[0])))


def _sync_id(run: RunId, direction: Direction) -> str:
    """The same after a restart, so that a synchronisation which goes on is still one."""
    return str(uuid5(NAMESPACE_OID, f"{run} {direction}"))


async def _on_disk(work: Awaitable[None]) -> None:
    try:
        await work
    except DataError as error:
        info = Info("node-storage", f"The node's storage failed: {error.message}")
        raise FatalForRun(info, ours=True) from error


class _How(TypedDict):
    """What every move is told."""

    limits: Limits
    on_progress: Callable[[Progress], None]


class _Sync:
    """One synchronisation: several volumes at once, one progress report at a time."""

    def __init__(
        self, yard: Yard, job: Job, direction: Direction, sync_id: str, *, manual: bool = False
    ) -> None:
        self._yard = yard
        self._job = job
        self._run = RunId(job.id, job.run)
        self._direction: Direction = direction
        self._id = sync_id
        self._manual = manual
        self._progress: dict[int, VolumeProgress] = {}
        self._news = asyncio.Event()

    @property
    def notes(self) -> list[str]:
        """What was worth telling, of all volumes."""
        return [note for progress in self._progress.values() for note in progress.notes]

    async def run(self, wanted: list[_Wanted]) -> None:
        for index, _, _ in wanted:
            self._progress[index] = VolumeProgress(volume=index)
        await self._tell("RUNNING")
        async with self._yard.effect(f"{self._direction}-data", self._run, volumes=len(wanted)):
            reporter = asyncio.create_task(self._keep_telling())
            try:
                await self._all(wanted)
            except FatalForRun as fatal:
                await _ended(reporter)
                await self._tell("FAILED", fatal.info.message)
                raise
            finally:
                await _ended(reporter)
        await self._tell("DONE")

    async def _all(self, wanted: list[_Wanted]) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for index, volume, place in wanted:
                    group.create_task(self._one(index, volume, place, len(wanted)))
        except* JobyardError as several:
            raise _first(several) from None

    async def _one(self, index: int, volume: Volume, place: Place | Web, beside: int) -> None:
        """One volume, tried again while its store or server does not answer."""
        settings = self._yard.settings
        if isinstance(place, Web):
            what = where = shown_url(place.url)
            move = partial(self._fetch, index, place)
        else:
            where = f"{place.container}@{place.alias}"
            what = f"Data store {where}"
            access = await self._access(place, volume, index)
            concurrency = max(1, settings.data_concurrency // beside)
            move = partial(self._move, access, index, volume, place, concurrency)
        for attempt in range(1, settings.store_attempts + 1):
            try:
                await move()
            except Unavailable as error:
                if attempt < settings.store_attempts:
                    await asyncio.sleep(min(30.0, settings.retry_s * 2**attempt))
                    continue
                message = f"{what} could not be used, after {attempt} attempts: {_bare(error, where)}"
                raise self._fatal("unavailable", volume, message, index) from error
            except JobyardError as error:
                raise self._fatal("refused", volume, f"{where}: {_bare(error, where)}", index) from error
            return

    def _fatal(self, code: str, volume: Volume, message: str, index: int) -> FatalForRun:
        self._progress[index] = _with(self._progress[index], "FAILED")
        arguments: dict[str, Value] = {"volume": index, "mountPath": volume.mount_path}
        return FatalForRun(Info(f"data-{self._direction}-{code}", message, arguments))

    async def _move(
        self, access: StoreAccess, index: int, volume: Volume, place: Place, concurrency: int
    ) -> None:
        may: Literal["RW", "RWD"] = "RWD" if volume.permission is Permission.RWD else "RW"
        root = volume_root(self._yard, self._run, index)
        how = _How(limits=self._limits, on_progress=self._noted(index))
        async with self._yard.shelf.open(access) as store:
            match self._direction, place.archive or "":
                case "pull", "":
                    source = Source(place.container, place.prefix)
                    done = await pull(store, source, root, **how, concurrency=concurrency)
                case "push", "":
                    source = Source(place.container, place.prefix)
                    done = await push(store, source, root, permission=may, **how, concurrency=concurrency)
                case "pull", key:
                    done = await pull_archive(store, place.container, key, root, **how)
                case _, key:
                    done = await push_archive(store, place.container, key, root, permission=may, **how)
        self._progress[index] = _shown(index, done, "DONE")

    @property
    def _limits(self) -> Limits:
        return Limits(
            max_objects=self._yard.settings.volume_max_objects,
            max_bytes=may_move(self._job, self._direction),
            max_depth=MAX_DEPTH,
        )

    async def _fetch(self, index: int, source: Web) -> None:
        """Pull a volume from a URL."""
        settings = self._yard.settings
        reach = Reach(settings.fetch_networks, settings.fetch_ca)
        root = volume_root(self._yard, self._run, index)
        done = await fetch.fetch(reach, source, root, limits=self._limits, on_progress=self._noted(index))
        self._progress[index] = _shown(index, done, "DONE")

    async def _access(self, place: Place, volume: Volume, index: int) -> StoreAccess:
        """Where and with which keys; asked outside of the retries, whose blame is the store's alone."""
        project = await self._yard.ledger.project(self._job.project)
        known = project.data_stores.get(place.alias) if project else None
        if known is None:
            message = f"The project has no data store {place.alias} any more."
            raise self._fatal("refused", volume, message, index)
        return StoreAccess(
            endpoint=known.endpoint,
            region=known.region,
            access_key=await self._yard.ledger.open_secret(known.access_key),
            secret_key=await self._yard.ledger.open_secret(known.secret_key),
        )

    def _noted(self, index: int) -> Callable[[Progress], None]:
        def on_progress(progress: Progress) -> None:
            self._progress[index] = _shown(index, progress, "RUNNING")
            self._news.set()

        return on_progress

    async def _keep_telling(self) -> None:
        """Report what is new, at most once in `progress_s`."""
        while True:
            await asyncio.sleep(self._yard.settings.progress_s)
            await self._news.wait()
            self._news.clear()
            try:
                await self._tell("RUNNING")
            except JobyardError as error:
                # The next report says it all; if the run is no longer ours, its driver finds out itself.
                _log.warning("progress not reported", job=str(self._job.id), error=error.message)

    async def _tell(self, state: SyncState, message: str = "") -> None:
        await self._yard.report(
            cmd.ReportDataSync,
            self._job,
            sync_id=self._id,
            direction=self._direction,
            state=state,
            volumes=tuple(self._progress.values()),
            manual=self._manual,
            message=message,
        )


def _bare(error: JobyardError, where: str) -> str:
    """The message without the place, which is about to be named before it."""
    return error.message.removeprefix(f"{where}: ")


def _shown(index: int, progress: Progress, state: SyncState) -> VolumeProgress:
    return VolumeProgress(
        volume=index,
        state=state,
        total=progress.total,
        processed=progress.processed,
        completed=progress.completed,
        skipped=progress.skipped,
        failed=progress.failed,
        deleted=progress.deleted,
        transferred_bytes=progress.transferred_bytes,
        total_bytes=progress.total_bytes,
        notes=progress.notes,
    )


def _with(progress: VolumeProgress, state: SyncState) -> VolumeProgress:
    return replace(progress, state=state)


def _first(several: BaseExceptionGroup[JobyardError]) -> JobyardError:
    """The first of several failures: one sentence on the job is enough, the rest is in the sync."""
    first = several.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

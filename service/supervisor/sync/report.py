"""One synchronisation: several volumes at once, one progress report at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog
from msgspec.structs import replace

from service.domain import commands as cmd
from service.domain.events import Direction, Info, SyncState, Value, VolumeProgress
from service.domain.job import Job
from service.domain.notes import in_short
from service.errors import JobyardError
from service.supervisor.data.progress import Progress
from service.supervisor.effects import FatalForRun, Yard
from service.supervisor.names import RunId
from service.supervisor.sync.move import Move, Wanted
from service.supervisor.volumes import is_cacheable

_log = structlog.get_logger()


class Sync:
    """Moves volumes, and tells the ledger how far each of them is."""

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
    def moved(self) -> list[VolumeProgress]:
        """How far each volume is."""
        return list(self._progress.values())

    async def run(
        self, wanted: list[Wanted], refused: Mapping[int, str] | None = None, *, last: bool = False
    ) -> None:
        """Raises `FatalForRun` for the first volume that cannot be moved, when none is moved any more.

        With `last` the volumes go afterwards, so that a file that failed counts as its volume does. `refused`
        are volumes that are not even tried, with the reason: it is told with them.
        """
        for index, why in (refused or {}).items():
            self._progress[index] = VolumeProgress(volume=index, state="FAILED", notes=(why,))
        for each in wanted:
            self._progress[each.index] = VolumeProgress(volume=each.index)
        await self._tell("RUNNING")
        async with self._yard.effect(f"{self._direction}-data", self._run, volumes=len(wanted)):
            reporter = asyncio.create_task(self._keep_telling())
            try:
                if refused and not wanted:
                    why = next(iter(refused.values()))
                    raise FatalForRun(Info(f"data-{self._direction}-refused", why))
                await self._all(wanted)
                if last:
                    self._require_whole()
            except FatalForRun as fatal:
                await _ended(reporter)
                await self._tell("FAILED", fatal.info.message)
                raise
            finally:
                await _ended(reporter)
        await self._tell("DONE")

    async def _all(self, wanted: list[Wanted]) -> None:
        """A pull ends with its first failure, as the run cannot begin. Of a push each volume is what somebody
        may wait for: the others go on."""
        failures: list[FatalForRun] = []

        async def one(each: Wanted) -> None:
            try:
                await self._one(each, len(wanted))
            except FatalForRun as fatal:
                if self._direction == "pull":
                    raise
                failures.append(fatal)

        try:
            async with asyncio.TaskGroup() as group:
                for each in wanted:
                    group.create_task(one(each))
        except BaseExceptionGroup as several:  # what `except*` raises Python before 3.11.4 wraps once more
            ours, rest = several.split(JobyardError)
            if ours is None or rest is not None:
                raise
            raise _first(ours) from None
        if failures:
            raise failures[0]

    def _require_whole(self) -> None:
        failed = [each for each in self._progress.values() if each.failed]
        if failed:
            for each in failed:
                self._progress[each.volume] = replace(each, state="FAILED")
            why = in_short([note for each in failed for note in each.notes[: each.failed]], _failures(failed))
            arguments: dict[str, Value] = {"volume": failed[0].volume, "failed": _failures(failed)}
            raise FatalForRun(Info("data-push-incomplete", f"Not pushed: {why}.", arguments))

    async def _one(self, wanted: Wanted, beside: int) -> None:
        index = wanted.index

        def on_progress(progress: Progress) -> None:
            self._progress[index] = _shown(index, progress, "RUNNING")
            self._news.set()

        # What is ordered of a volume of the job's own comes straight from its source.
        by_cache = self._direction == "pull" and not self._manual and is_cacheable(wanted.volume)
        move = Move(
            self._yard,
            self._job,
            self._direction,
            wanted,
            on_progress,
            beside,
            by_cache=by_cache,
            noted=not self._manual,
        )
        try:
            done = await move.run()
        except FatalForRun:
            self._progress[index] = replace(self._progress[index], state="FAILED")
            self._news.set()
            raise
        self._progress[index] = _shown(index, done, "DONE")

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
        left_out=progress.left_out,
    )


def _failures(volumes: list[VolumeProgress]) -> int:
    return sum(each.failed for each in volumes)


def _first(several: BaseExceptionGroup[JobyardError]) -> JobyardError:
    """The first of several failures: one sentence on the job is enough, the rest is in the sync."""
    first = several.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

"""Driving one run: look at its state, do what the state asks for, report what was seen, look again.

Every step can be cut off at any point and begun anew: what it makes has a name or a label by which the
next attempt finds it, and what it reports is refused when it is no longer true. So a restart after a
kill -9 is nothing special: it just looks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from service.domain import commands as cmd
from service.domain.events import Info
from service.domain.job import Job
from service.domain.states import State
from service.errors import EngineError, JobyardError, NotFound, StaleEpoch, Unavailable, WrongState
from service.supervisor import container, images, sync, volumes
from service.supervisor.effects import FatalForRun, Yard
from service.supervisor.engine.protocol import Container
from service.supervisor.engine.refusals import without_paths
from service.supervisor.names import RunId
from service.supervisor.orders import Orders
from service.supervisor.storage.own import require_fit
from service.supervisor.storage.watcher import StorageWatch

T = TypeVar("T")

_log = structlog.get_logger()

#: How often in a row the engine may refuse, or an error happen that we cannot explain, before the run ends
#: with ERROR. Not answering does not count: that is waited for.
FAILURES = 3
LONGEST_PAUSE_S = 15.0


class RunDriver:
    """Drives one run until it has ended, or until it is cancelled: that leaves its container running."""

    def __init__(self, yard: Yard, run: RunId) -> None:
        self._yard = yard
        self._run = run
        self._signal = yard.watch.signal(run.job)
        self._orders = Orders(yard)
        self._storage = StorageWatch(yard)
        self._steps: dict[State, Callable[[Job], Awaitable[None]]] = {
            State.INITIALIZING: self._initialize,
            State.PENDING: self._start,
            State.RUNNING: self._follow,
            State.INTERRUPTING: self._stop,
            State.TIMEOUT: self._stop,
            State.FINALIZING: self._finalize,
        }

    async def drive(self) -> bool:
        """True when something was left behind that a sweep should put away soon.

        Raises `StaleEpoch` when the engine is no longer ours; everything else it settles itself.
        """
        try:
            await self._drive()
        finally:
            await self._orders.stop()
            await self._storage.stop()
        return await self._leave()

    async def _drive(self) -> None:
        waits = failures = 0
        while (job := self._job()) is not None:
            try:
                if job.state is not State.RUNNING:
                    await self._storage.stop()
                    if job.sync_orders:
                        await self._orders.drop(job)
                await self._steps[job.state](job)
                waits = failures = 0
            except StaleEpoch:
                raise
            except (WrongState, NotFound):
                await self._yard.watch.refresh(self._run.job)
            except FatalForRun as fatal:
                await self._give_up(job, fatal)
            except Unavailable as error:
                waits += 1
                _log.warning("run waits", job=str(job.id), run=job.run, state=job.state, error=error.message)
                await self._pause(job, waits)
            except Exception as error:  # noqa: BLE001 (a run must never be left without anybody)
                failures += 1
                _log.exception("run step failed", job=str(job.id), run=job.run, state=job.state)
                if failures >= FAILURES:
                    await self._give_up(job, _failure(error))
                await self._pause(job, failures)

    async def _leave(self) -> bool:
        """A run that ended with ERROR may have left a container, which the sweep puts away with its log."""
        try:
            job = await self._yard.ledger.find_job(self._run.job)
            if job is None or job.state is not State.ERROR or job.run != self._run.run:
                return False
            if await container.find(self._yard, self._run) is None:
                self._yard.keeper.seal(self._run.job, self._run.run)
        except Unavailable as error:
            _log.warning("run left as it is", job=str(self._run.job), error=error.message)
        return True

    def _job(self) -> Job | None:
        """The job while this run of it is ours to drive."""
        job = self._yard.watch.jobs.get(self._run.job)
        return job if job is not None and job.run == self._run.run and job.state in self._steps else None

    async def _give_up(self, job: Job, fatal: FatalForRun) -> None:
        """FAILED when its user can mend it, ERROR when it was us."""
        can_abort = job.state in (State.INITIALIZING, State.PENDING, State.INTERRUPTING)
        try:
            if can_abort and not fatal.ours:
                await self._yard.report(cmd.AbortRun, job, info=fatal.info)
            else:
                await self._yard.report(cmd.FailRun, job, info=fatal.info)
        except (WrongState, NotFound, Unavailable) as error:
            _log.warning("giving up was refused", job=str(job.id), run=job.run, error=error.message)
            await self._yard.watch.refresh(job.id)

    async def _pause(self, job: Job, troubles: int) -> None:
        """Wait longer after each trouble in a row, but not when the job has moved on meanwhile."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + min(LONGEST_PAUSE_S, self._yard.settings.retry_s * 2 ** (troubles - 1))
        while (left_s := ends - loop.time()) > 0:
            self._signal.clear()
            if self._changed(job):
                return
            await self._wait(left_s)

    # -- one step for each state ----------------------------------------------------------------------

    async def _initialize(self, job: Job) -> None:
        if await self._unless_interrupted(job, sync.pull_all(self._yard, job)) and (
            await self._unless_interrupted(job, require_fit(self._yard, job))
        ):
            await self._yard.report(cmd.ReportPrepared, job)

    async def _start(self, job: Job) -> None:
        """PENDING: find the container or make it, start it, and report when the engine says it began."""
        found = await container.find(self._yard, self._run)
        if found is None or found.state == "created":
            image = await self._unless_interrupted(job, images.ready(self._yard, job))
            if not image:
                return
            async with self._yard.starts:
                if self._changed(job):
                    return
                found = await container.create_and_start(self._yard, job)
        if found.started_at is None:
            raise Unavailable("the engine has not started the container yet")
        held = await self._yard.engine.image(found.image_id)
        await self._yard.report(
            cmd.ReportStarted,
            job,
            started_at=found.started_at,
            container_id=found.id,
            image_id=found.image_id,
            image_digest=images.digest(held, job) if held else None,
            ip=found.ip,
        )

    async def _follow(self, job: Job) -> None:
        """RUNNING: keep its log, until the process ends, its time or storage is up, or an order comes."""
        self._signal.clear()
        found = await container.must_find(self._yard, self._run, job.container_id)
        self._yard.keeper.watch(self._run.job, self._run.run, found.id)
        if container.has_ended(found):
            await self._report_exit(job, found)
            return
        self._orders.look(job)
        if (used := self._storage.look(job, found.id)) is not None:
            await self._yard.report(cmd.ReportStorageExceeded, job, used_bytes=used)
            return
        if job.timeout_at is None:
            raise FatalForRun(Info("no-timeout", "The run has no timeout."), ours=True)
        left_s = (job.timeout_at - self._yard.clock.now()).total_seconds()
        if left_s <= 0:
            await self._yard.clock.sync()
            await self._yard.report(cmd.ReportTimeout, job)
            return
        await self._wait(min(left_s + 0.001, self._yard.settings.poll_s))

    async def _stop(self, job: Job) -> None:
        """INTERRUPTING and TIMEOUT: SIGTERM, and SIGKILL after the grace."""
        found = await container.find(self._yard, self._run)
        if found is None or found.started_at is None:
            if job.started_at is not None:
                raise container.lost(self._run)
            await self._yard.report(
                cmd.AbortRun, job, info=Info("interrupted", "The job was interrupted before it ran.")
            )
            return
        self._yard.keeper.watch(self._run.job, self._run.run, found.id)
        if not container.has_ended(found):
            fast = job.spec.shutdown == "Fast"
            grace_s = 0 if fast else self._yard.settings.stop_grace_s
            await self._yard.still_ours()
            async with self._yard.effect("stop-container", self._run, grace_s=grace_s):
                await self._yard.engine.stop(found.id, grace_s)
            found = await container.must_find(self._yard, self._run)
        await self._report_exit(job, found)

    async def _finalize(self, job: Job) -> None:
        """FINALIZING: keep the log's tail, push, put away, and only then say that it is done."""
        found = await container.find(self._yard, self._run)
        if found is not None:
            await self._yard.keeper.finish(self._run.job, self._run.run, found.id)
        pushed = await sync.push_all(self._yard, job) if job.exit_code is not None else sync.Pushed()
        problem, kept = pushed.problem, pushed.problem is not None
        if kept:
            volumes.keep(self._yard, self._run)
        if found is not None:
            await container.put_away(self._yard, self._run, found)
        self._yard.keeper.seal(self._run.job, self._run.run)
        await self._yard.report(
            cmd.FinalizeRun, job, problem=problem, remark=pushed.remark, volumes_kept=kept
        )
        if not kept:
            await volumes.remove(self._yard, self._run)

    async def _report_exit(self, job: Job, found: Container) -> None:
        if found.exit_code is None or found.finished_at is None:
            info = Info(
                "unknown-outcome", f"The engine does not know how the container ended ({found.state})."
            )
            raise FatalForRun(info, ours=True)
        await sync.settle(self._yard, job)
        await self._yard.report(
            cmd.ReportExited,
            job,
            finished_at=found.finished_at,
            exit_code=found.exit_code,
            oom_killed=found.oom_killed,
        )

    # -- waiting --------------------------------------------------------------------------------------

    def _changed(self, job: Job) -> bool:
        now = self._yard.watch.jobs.get(job.id)
        return now is None or (now.run, now.state) != (job.run, job.state)

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._signal.wait()
        except TimeoutError:
            return

    async def _unless_interrupted(self, job: Job, work: Awaitable[T]) -> bool:
        """Do the work, and drop it as soon as the job leaves its state; False when it was dropped."""
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                self._signal.clear()
                if self._changed(job):
                    return False
                signalled = asyncio.ensure_future(self._signal.wait())
                try:
                    await asyncio.wait({task, signalled}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    signalled.cancel()
            await task
            return True
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


def _failure(error: Exception) -> FatalForRun:
    if isinstance(error, EngineError):
        return FatalForRun(
            Info("engine-refused", f"The engine refused: {without_paths(error.message)}"), ours=True
        )
    message = without_paths(error.message) if isinstance(error, JobyardError) else type(error).__name__
    return FatalForRun(Info("internal-error", f"The service failed at this run: {message}"), ours=True)

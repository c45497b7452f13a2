"""What is done for a run in each of its states: seen to, and reported.

Every step can be cut off at any point and begun anew: what it makes has a name or a label by which the
next attempt finds it, and what it reports is refused when it is no longer true.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any

import structlog

from service.domain import commands as cmd
from service.domain.events import Info
from service.domain.job import Job
from service.domain.states import State
from service.errors import EngineError, Unavailable
from service.supervisor import container, images, stops, sync, volumes
from service.supervisor.data import disk
from service.supervisor.effects import FatalForRun, Yard
from service.supervisor.engine.protocol import Container, ImageInfo
from service.supervisor.names import RunId, run_labels
from service.supervisor.orders import Orders
from service.supervisor.own_storage import require_fit
from service.supervisor.storage_watch import StorageWatch
from service.supervisor.waits import Waits
from service.tasks import whole

_log = structlog.get_logger()

#: What dockerd says of a container that ended while there was no dockerd: it no longer finds a process, and
#: no code. A process can have it, too: only where the engine has begun anew since is it taken for this.
_UNKNOWN = 255
#: What a process ends with that does not handle the signal by which it is told to (SIGINT, SIGQUIT, SIGTERM).
#: A dockerd without live-restore tells all of them as it is stopped, and the next one does not remember it.
_ENDED_BY_SIGNAL = frozenset({130, 131, 143})


class Steps:
    """The steps of one run; `waits` are its driver's."""

    def __init__(self, yard: Yard, run: RunId, waits: Waits) -> None:
        self._yard = yard
        self._run = run
        self._waits = waits
        self._orders = Orders(yard)
        self._storage = StorageWatch(yard)
        #: When the process was last seen running, and whether the engine has not answered since.
        self._seen_running: datetime | None = None
        self._engine_away = False
        #: How often the engine's stream of events had broken off then.
        self._breaks = 0
        #: Its process began with nobody of us there, or before, and was not seen running.
        self._adopted = True
        #: It was seen running after it was to be stopped: also where the disk takes no mark of it (`stops`).
        self._stopped = False
        #: It became PENDING by our own word, and only of PENDING runs containers are made: there is none.
        self._just_prepared = False
        self._of: dict[State, Callable[[Job], Coroutine[Any, Any, None]]] = {
            State.INITIALIZING: self._initialize,
            State.PENDING: self._start,
            State.RUNNING: self._follow,
            State.INTERRUPTING: self._stop,
            State.TIMEOUT: self._stop,
            State.FINALIZING: self._finalize,
        }

    def know(self, state: State) -> bool:
        """Whether there is a step for it: a run that is in another is not driven."""
        return state in self._of

    async def take(self, job: Job) -> None:
        """The one that the job's state asks for. What goes on beside a running process ends with it."""
        if job.state is not State.RUNNING:
            await self._storage.stop()
            if job.sync_orders:
                await self._orders.drop(job)
        with disk.full_waits():
            await whole(self._of[job.state](job))

    async def stop(self) -> None:
        """End what goes on beside the steps."""
        await self._orders.stop()
        await self._storage.stop()

    async def _initialize(self, job: Job) -> None:
        if await self._waits.unless_interrupted(job, sync.pull_all(self._yard, job)) and (
            await self._waits.unless_interrupted(job, require_fit(self._yard, job))
        ):
            await self._yard.report(cmd.ReportPrepared, job)
            self._just_prepared = True

    async def _start(self, job: Job) -> None:
        """PENDING. What cannot be begun ends as such only once it is sure that it was not: whoever made its
        container may start it at any moment, and the image that we wait for is needed no more."""
        try:
            await self._begin(job)
        except FatalForRun as fatal:
            if fatal.ours or await container.begun(self._yard, job, self._run) is None:
                raise

    async def _begin(self, job: Job) -> None:
        """Find the container or make it, start it, and report when the engine says it began."""
        held: ImageInfo | None = None

        async def get_ready() -> None:
            nonlocal held
            held = await images.ready(self._yard, job)

        # Found before the image is asked for: what runs already needs none.
        found = None if self._just_prepared else await container.find(self._yard, self._run)
        self._just_prepared = False
        if found is None or found.started_at is None:
            if not await self._waits.unless_interrupted(job, get_ready()):
                return
            async with self._yard.starts:
                if self._waits.changed(job):
                    return
                breaks = self._yard.same.breaks
                found, by_us = await container.create_and_start(self._yard, job)
                if by_us:
                    self._adopted, self._breaks = False, breaks
        if found.started_at is None:
            raise Unavailable("the engine has not started the container yet")
        if held is None or held.id != found.image_id:  # its tag was moved, or the container was there before
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
        self._waits.heard()
        breaks = self._yard.same.breaks  # as of before the look: whatever comes after it was not heard
        found = await self._looked(job)
        anew = await self._began_anew(found)
        if container.has_ended(found):  # its log is taken whole when it is put away
            await self._report_end(job, found, anew=anew)
            return
        self._yard.keeper.watch(self._run.job, self._run.run, found.id)
        self._seen_running, self._engine_away = self._yard.clock.now(), False
        self._adopted, self._breaks = False, breaks
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
        await self._waits.wait(min(left_s + 0.001, self._yard.settings.poll_s))

    async def _report_end(self, job: Job, found: Container, *, anew: bool) -> None:
        """Of a process that was found ended, with what else is known of how it came to its end."""
        missed = anew and (found.exit_code == _UNKNOWN or self._was_cut_off(found))
        away = (self._seen_running or job.started_at) if self._engine_away or missed else None
        outside = await self._yard.engine.was_told_to_stop(found) or (
            anew and found.exit_code in _ENDED_BY_SIGNAL
        )
        await self._report_exit(
            job,
            found,
            engine_away_since=away,
            unknown=missed or found.lost,
            stopped_outside=outside,
        )

    def _was_cut_off(self, found: Container) -> bool:
        """Whether its engine died as it started it, for us and without an answer; nobody saw its process run,
        and it failed. It may have, as what it printed went to nobody: dockerd, which reads it, was gone.
        """
        begun_by_us = found.id in self._yard.asked_to_start and self._seen_running is None
        return begun_by_us and found.exit_code != 0

    async def _looked(self, job: Job) -> Container:
        """The run's container. That the engine did not answer is kept: it may be why the process ended."""
        try:
            return await container.must_find(self._yard, self._run, job.container_id)
        except Unavailable:
            self._engine_away = True
            raise

    async def _began_anew(self, found: Container) -> bool:
        """Whether the engine was not heard since the process began, or was last seen running, and has begun
        anew since.

        What is printed while there is no engine is lost, and what it had not written: the log says so.
        """
        unheard = self._adopted or self._engine_away or self._breaks != self._yard.same.breaks
        if not unheard or found.started_at is None:
            return False
        labels = run_labels(self._yard.ledger_id, self._run)
        if not await self._yard.engine.began_anew(labels):
            return False
        self._yard.keeper.missed(self._run.job, self._run.run, found.id)
        return True

    async def _stop(self, job: Job) -> None:
        """INTERRUPTING and TIMEOUT: SIGTERM, and SIGKILL after the grace."""
        found = await container.begun(self._yard, job, self._run)
        if found is None:
            await self._yard.report(
                cmd.AbortRun, job, info=Info("interrupted", "The job was interrupted before it ran.")
            )
            return
        anew = await self._began_anew(found)
        self._yard.keeper.watch(self._run.job, self._run.run, found.id)
        self._stopped = self._stopped or stops.is_marked(self._yard, self._run, found.id)
        if not container.has_ended(found):
            self._stopped = True
            await stops.mark(self._yard, self._run, found.id)
            fast = job.spec.shutdown == "Fast"
            grace_s = 0 if fast else self._yard.settings.stop_grace_s
            await self._yard.still_ours()
            async with self._yard.effect("stop-container", self._run, grace_s=grace_s):
                await self._yard.engine.stop(found.id, grace_s)
            found = await container.must_find(self._yard, self._run)
        ended_at, left_at = found.finished_at, job.stopped_at
        if not self._stopped and ended_at is not None and left_at is not None and ended_at < left_at:
            await self._report_end(job, found, anew=anew)  # the order, or the timeout, found it ended
        else:
            await self._report_exit(job, found, by_us=self._stopped)

    async def _finalize(self, job: Job) -> None:
        """FINALIZING: keep the log's tail, push, put away, and only then say that it is done."""
        found = await container.find(self._yard, self._run, job.container_id)
        if found is not None:
            await self._yard.keeper.finish(self._run.job, self._run.run, found.id)
        pushed = await sync.push_all(self._yard, job) if job.exit_code is not None else sync.Pushed()
        problem, kept = pushed.problem, pushed.problem is not None
        if kept:
            volumes.keep(self._yard, self._run)
        if found is not None:
            try:
                await container.put_away(self._yard, self._run, found)
            except EngineError as error:
                # Its end is known and its log is whole: what is left of it is for the sweep.
                _log.warning("container stays", job=str(job.id), run=job.run, error=error.message)
                self._yard.untidy.set()
        self._yard.keeper.seal(self._run.job, self._run.run, gone=job.may_have_run)
        await self._yard.report(
            cmd.FinalizeRun, job, problem=problem, remark=pushed.remark, volumes_kept=kept
        )
        if not kept:
            await volumes.remove(self._yard, self._run)

    async def _report_exit(
        self,
        job: Job,
        found: Container,
        *,
        engine_away_since: datetime | None = None,
        unknown: bool = False,
        stopped_outside: bool = False,
        by_us: bool = False,
    ) -> None:
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
            engine_away_since=engine_away_since,
            unknown=unknown,
            stopped_outside=stopped_outside,
            by_us=by_us,
        )

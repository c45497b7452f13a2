"""The supervisor of one engine: hold the lease, plan, and see that every placed run has a driver.

The loop is timing; `run_once` is work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

import structlog

from service.config import Settings
from service.domain import commands as cmd
from service.domain.job import Job
from service.domain.states import PLACED, State
from service.errors import (
    DataError,
    EngineError,
    JobyardError,
    NotFound,
    Rejected,
    StaleEpoch,
    Unavailable,
    WrongState,
)
from service.ledger.leases import Lease
from service.supervisor import volumes
from service.supervisor.clock import LedgerClock
from service.supervisor.driver import RunDriver
from service.supervisor.effects import Yard
from service.supervisor.engine.protocol import Engine, EngineInfo
from service.supervisor.guard import HostLock, holder_name, take_lease
from service.supervisor.logs.keeper import LogKeeper
from service.supervisor.names import RunId, run_of
from service.supervisor.plan import Node, plan
from service.supervisor.ports import SupervisorLedger
from service.supervisor.sweep import sweep
from service.supervisor.watch import Watch

_log = structlog.get_logger()

SWEEP_S = 30.0


class Supervisor:
    """Runs the jobs of a ledger on one engine, while this process lives and holds the lease."""

    def __init__(
        self, ledger: SupervisorLedger, engine: Engine, keeper: LogKeeper, settings: Settings
    ) -> None:
        self._ledger = ledger
        self._engine = engine
        self._keeper = keeper
        self._settings = settings
        self._holder = holder_name()
        #: Set once the engine is ours and everything that was there has been taken over.
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled: take the lease, look after the engine, and begin again when it is lost."""
        while True:
            try:
                await self._one_epoch()
            except StaleEpoch as error:
                _log.warning("lease lost", error=error.message)
            except Unavailable as error:
                _log.warning("supervisor interrupted", error=error.message)
            except Exception:  # noqa: BLE001 (jobs must never be left without anybody)
                _log.exception("supervisor failed; it begins again")
            self.ready.clear()
            await asyncio.sleep(self._settings.retry_s)

    async def _one_epoch(self) -> None:
        info = await self._engine.info()
        head = await self._ledger.head()
        lock = HostLock(info.id, head.ledger_id)
        try:
            lease = await take_lease(
                self._ledger, info.id, lock, self._holder, self._settings.lease_ttl_s, self._settings.retry_s
            )
            try:
                shift = await self._begin(info, lease)
                self.ready.set()
                await shift.run()
            finally:
                with suppress(JobyardError, TimeoutError):
                    async with asyncio.timeout(2):
                        await self._ledger.release_lease(lease)
        finally:
            lock.release()

    async def _begin(self, info: EngineInfo, lease: Lease) -> Shift:
        """Say that we are here, take over what the one before us left, and see what the node has."""
        head = await self._ledger.head()
        watch = Watch(self._ledger, self._settings.retry_s, lambda job: self._keeper.seal(job.id, job.run))
        yard = Yard(
            ledger=self._ledger,
            engine=self._engine,
            keeper=self._keeper,
            watch=watch,
            clock=LedgerClock(self._ledger),
            settings=self._settings,
            ledger_id=head.ledger_id,
            engine_id=info.id,
            lease=lease,
        )
        await yard.clock.sync()
        await self._ledger.submit(
            cmd.StartSupervisor(
                engine=info.id,
                epoch=lease.epoch,
                node=self._settings.node,
                absent_since=lease.absent_since,
            ),
            actor=f"supervisor:{info.id[:12]}",
        )
        await watch.load()
        shift = Shift(yard, node_of(info, self._settings))
        if lease.absent_since is not None:
            for job in list(watch.jobs.values()):
                if job.state in PLACED and job.engine == info.id:
                    with suppress(WrongState, NotFound):  # it moved on meanwhile
                        await yard.report(cmd.AdoptRun, job, absent_since=lease.absent_since)
        if not await self._engine.block_metadata():
            _log.warning(
                "metadata addresses are not blocked", why="not root on the engine's host, or no iptables"
            )
        if self._settings.node_gpus and not info.gpu_driver:
            _log.warning("GPUs are configured, but no NVIDIA driver is seen", gpus=self._settings.node_gpus)
        _log.info("supervisor started", engine=info.id, epoch=lease.epoch, jobs=len(watch.jobs))
        return shift


def node_of(info: EngineInfo, settings: Settings) -> Node:
    """What the engine's machine offers: as Docker says, unless the configuration says otherwise."""
    trouble = "" if settings.node_gpus else "none are configured"
    return Node(
        name=settings.node,
        cpus=settings.node_cpus or info.cpus,
        memory_bytes=settings.node_memory or info.memory_bytes,
        gpus=settings.node_gpus,
        gpu_trouble=trouble,
    )


class Shift:
    """One epoch at work: it ends with `StaleEpoch` when another supervisor has taken over."""

    def __init__(self, yard: Yard, node: Node) -> None:
        self._yard = yard
        self._node = node
        self._drivers: dict[RunId, asyncio.Task[bool]] = {}
        self._first_since: dict[UUID, datetime] = {}

    async def run(self) -> None:
        """Raises `StaleEpoch`, or what nobody here can explain. Containers live on; all else is let go."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._yard.watch.run())
                group.create_task(self._keep_lease())
                group.create_task(self._listen())
                group.create_task(self._loop())
                group.create_task(self._keep_tidy())
        except* StaleEpoch as stale:
            raise StaleEpoch("another supervisor has the engine") from stale
        finally:
            for task in self._drivers.values():
                task.cancel()
            await asyncio.gather(*self._drivers.values(), return_exceptions=True)
            await self._yard.shelf.close()
            await self._yard.keeper.close()  # whoever has the engine next may keep the same logs

    async def _loop(self) -> None:
        """Timing only: work when something stirred, and look anyway now and then."""
        settings = self._yard.settings
        while True:
            self._yard.watch.stirred.clear()
            try:
                await self.run_once()
            except Unavailable as error:
                _log.warning("planning waits", error=error.message)
                await asyncio.sleep(settings.retry_s)
            try:
                async with asyncio.timeout(settings.poll_s):
                    await self._yard.watch.stirred.wait()
            except TimeoutError:
                continue

    async def run_once(self) -> None:
        """Give every placed run a driver, and plan the queue."""
        self._reap()
        jobs = list(self._yard.watch.jobs.values())
        mine = [job for job in jobs if job.engine == self._yard.engine_id]
        for job in mine:
            if job.state in PLACED:
                self._drive(RunId(job.id, job.run), RunDriver(self._yard, RunId(job.id, job.run)).drive)
            elif job.push_ordered is not None:
                self._drive(RunId(job.id, job.run), partial(self._push_again, job))
        await self._place(jobs, [job for job in mine if job.state in PLACED])

    async def _place(self, jobs: list[Job], placed: list[Job]) -> None:
        queued = [job for job in jobs if job.state is State.QUEUED]
        now = self._yard.clock.now()
        made = plan(self._node, placed, queued, now, self._yard.settings.patience_s, self._first_since)
        self._first_since = {job: self._first_since.get(job, now) for job in made.first}
        for placement in made.placements:
            with suppress(WrongState, NotFound):  # it was interrupted or deleted meanwhile
                await self._yard.report(
                    cmd.PlaceRun, placement.job, node=self._node.name, gpus=placement.gpus
                )
        for job in queued:
            if (reason := made.reasons.get(job.id)) is not None and reason != job.info:
                with suppress(WrongState, NotFound):
                    await self._yard.report(cmd.NoteRun, job, info=reason)

    def _drive(self, run: RunId, work: Callable[[], Coroutine[Any, Any, bool]]) -> None:
        if run not in self._drivers:
            task = asyncio.create_task(work(), name=f"run {run}")
            self._drivers[run] = task
            task.add_done_callback(partial(self._driven, run))

    def _driven(self, run: RunId, task: asyncio.Task[bool]) -> None:
        """A driver is done. Its run is free to be swept now; what went wrong is for `_reap` to raise."""
        if not task.cancelled() and task.exception() is None:
            self._drivers.pop(run, None)
            if task.result():
                self._yard.untidy.set()
        self._yard.watch.stirred.set()

    def _reap(self) -> None:
        """Forget the drivers that are done. One that learnt of a stale epoch ends the shift."""
        for run, task in list(self._drivers.items()):
            if task.done():
                del self._drivers[run]
                if not task.cancelled() and (error := task.exception()) is not None:
                    raise error

    async def _push_again(self, job: Job) -> bool:
        """Push the volumes that were kept; when that works they need not be kept any longer. As `drive`,
        and nothing is left behind."""
        pause_s = self._yard.settings.retry_s
        try:
            pushed = await volumes.push_all(self._yard, job, sync_id=job.push_ordered)
            if pushed.problem is None:
                await volumes.remove(self._yard, RunId(job.id, job.run))
            return False
        except StaleEpoch:
            raise
        except (Rejected, DataError, Unavailable) as error:
            _log.warning("push again ended", job=str(job.id), run=job.run, error=error.message)
        except Exception:  # noqa: BLE001 (one job's volumes must not end the care for all others)
            _log.exception("push again failed", job=str(job.id), run=job.run)
            pause_s = SWEEP_S
        # The order stands unless it was answered, and then this is tried again.
        await asyncio.sleep(pause_s)
        return False

    async def _keep_tidy(self) -> None:
        """Put away what was left over: when told of something, and now and then. Beside the planning,
        because a container that does not want to end takes its whole grace."""
        untidy = self._yard.untidy
        while True:
            untidy.clear()
            try:
                await sweep(self._yard, self._drivers)
            except (Unavailable, EngineError) as error:
                _log.warning("sweep interrupted", error=error.message)
            try:
                async with asyncio.timeout(SWEEP_S):
                    await untidy.wait()
            except TimeoutError:
                continue

    async def _keep_lease(self) -> None:
        """Renew the lease well before it is over. Not reaching the ledger is no reason to stop: to lose
        the lease takes another supervisor."""
        ttl_s = self._yard.settings.lease_ttl_s
        while True:
            await asyncio.sleep(ttl_s / 3)
            try:
                await self._yard.still_ours()
                await self._yard.clock.sync()
            except Unavailable as error:
                _log.warning("lease not renewed", error=error.message)

    async def _listen(self) -> None:
        """The engine's events are hints: they wake whoever looks after the container, and no more."""
        watch, engine = self._yard.watch, self._yard.engine
        runs: dict[str, RunId] = {}
        while True:
            try:
                async for container_id in engine.events():
                    if not container_id:  # the subscription stands: whatever was missed is looked for
                        for job in watch.jobs:
                            watch.nudge(job)
                        continue
                    run = runs.get(container_id) or await self._run_of(container_id)
                    if run is not None:
                        runs[container_id] = run
                        watch.nudge(run.job)
            except JobyardError as error:
                _log.warning("engine events interrupted", error=error.message)
            runs.clear()
            await asyncio.sleep(self._yard.settings.retry_s)

    async def _run_of(self, container_id: str) -> RunId | None:
        found = await self._yard.engine.find(container_id)
        return run_of(found.labels) if found is not None else None

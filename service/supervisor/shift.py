"""One epoch at work: plan, give every placed run a driver, keep the lease, listen, keep tidy.

The loop is timing; `run_once` is work.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

import structlog

from service.domain import commands as cmd
from service.domain.events import Info
from service.domain.job import Job
from service.domain.scheduling import Node, plan
from service.domain.states import PLACED, State
from service.errors import (
    AnotherEngine,
    EventsLost,
    JobyardError,
    NotFound,
    StaleEpoch,
    Unavailable,
    WrongState,
)
from service.supervisor import budgets
from service.supervisor.admission import Admission
from service.supervisor.adoption import adopt
from service.supervisor.driver import RunDriver
from service.supervisor.effects import Yard
from service.supervisor.engine.protocol import SUBSCRIBED, Hint
from service.supervisor.names import RunId, run_of
from service.supervisor.orphans import Orphans
from service.supervisor.push_again import is_ordered, push_again
from service.supervisor.stead import Stead
from service.supervisor.sweep import sweep

_log = structlog.get_logger()

SWEEP_S = 30.0
#: So many jobs are told at once why they wait.
NOTES_AT_ONCE = 100


class Shift:
    """One epoch at work: it ends with `StaleEpoch` when another supervisor has taken over."""

    def __init__(self, yard: Yard, node: Node) -> None:
        self._yard = yard
        self._node = node
        self._drivers: dict[RunId, asyncio.Task[bool]] = {}
        self._first_since: dict[UUID, datetime] = {}
        self._admission = Admission(yard)
        self._stead = Stead(yard)
        self._orphans = Orphans(yard, self._stead)

    async def run(self) -> None:
        """Raises `StaleEpoch`, `EventsLost`, `AnotherEngine`, or what nobody here can explain. Containers
        live on; all else is let go."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._yard.watch.run())
                group.create_task(self._keep_lease())
                group.create_task(self._listen())
                group.create_task(self._loop())
                group.create_task(self._keep_tidy())
                group.create_task(self._watch_budgets())
                group.create_task(self._watch_room())
                group.create_task(self._watch_orphans())
        except BaseExceptionGroup as several:  # what `except*` raises Python before 3.11.4 wraps once more
            over, rest = several.split((StaleEpoch, EventsLost, AnotherEngine))
            if over is None or rest is not None:
                raise
            for error in over.exceptions:
                if isinstance(error, EventsLost | AnotherEngine):
                    raise error from None
            raise StaleEpoch("another supervisor has the engine") from over
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
            except AnotherEngine:
                raise
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
        for job in jobs:
            if is_ordered(job) and (job.engine == self._yard.engine_id or self._orphans.include(job)):
                self._drive(RunId(job.id, job.run), partial(push_again, self._yard, self._stead, job))
        await self._place(jobs, [job for job in mine if job.state in PLACED])

    async def _place(self, jobs: list[Job], placed: list[Job]) -> None:
        queued = [job for job in jobs if job.state is State.QUEUED]
        if queued:
            await self._yard.same.sure()  # a run is placed on the engine whose id it gets
        now = self._yard.clock.now()
        patience_s = self._yard.settings.patience_s
        stopped = await self._admission.now()
        made = plan(self._node, placed, queued, now, patience_s, self._first_since, stopped)
        self._first_since = {job: self._first_since.get(job, now) for job in made.first}
        for placement in made.placements:
            if self._admission.stopped != stopped:
                break  # it became full while others were placed, and the plan is made anew
            async with self._unless_moved(placement.job):
                await self._yard.report(
                    cmd.PlaceRun, placement.job, node=self._node.name, gpus=placement.gpus
                )
        notes = [
            (job, reason)
            for job in queued
            if (reason := made.reasons.get(job.id)) is not None and reason != job.info
        ]
        for first in range(0, len(notes), NOTES_AT_ONCE):
            # Each is for itself, and many share a commit.
            await asyncio.gather(*(self._note(*note) for note in notes[first : first + NOTES_AT_ONCE]))

    async def _note(self, job: Job, reason: Info) -> None:
        async with self._unless_moved(job):
            await self._yard.report(cmd.NoteRun, job, info=reason)

    @asynccontextmanager
    async def _unless_moved(self, job: Job) -> AsyncIterator[None]:
        """What is said of a job that was interrupted or deleted meanwhile is dropped. The job is asked for
        anew: one that is taken for waiting has a part in every plan."""
        try:
            yield
        except (WrongState, NotFound):
            await self._yard.watch.refresh(job.id)

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

    async def _keep_tidy(self) -> None:
        """Put away what was left over: when told of something, and now and then. Beside the planning,
        because a container that does not want to end takes its whole grace."""
        untidy = self._yard.untidy
        while True:
            untidy.clear()
            try:
                await sweep(self._yard, self._drivers)
            except StaleEpoch:
                raise
            except (JobyardError, OSError) as error:
                _log.warning("sweep interrupted", error=str(error))
            try:
                async with asyncio.timeout(SWEEP_S):
                    await untidy.wait()
            except TimeoutError:
                continue

    async def _watch_budgets(self) -> None:
        """What a run costs grows by the begun minute, whether or not anything happens to it."""
        while True:
            await asyncio.sleep(self._yard.settings.budget_look_s)
            try:
                await budgets.look(self._yard)
            except Unavailable as error:
                _log.warning("budgets not looked at", error=error.message)

    async def _watch_room(self) -> None:
        """The plan is made anew when the node has become full, or has room again."""
        while True:
            await asyncio.sleep(self._yard.settings.room_look_s)
            try:
                if await self._admission.look():
                    self._yard.watch.stirred.set()
            except Unavailable as error:
                _log.warning("admission not told", error=error.message)

    async def _watch_orphans(self) -> None:
        """Runs of an engine that this node had before, and that is gone."""
        while True:
            try:
                if await self._orphans.look():
                    self._yard.watch.stirred.set()
            except (Unavailable, OSError) as error:
                _log.warning("runs of other engines not looked at", error=str(error))
            await asyncio.sleep(self._yard.settings.lease_ttl_s)

    async def _keep_lease(self) -> None:
        """Renew the lease well before it is over. Not reaching the ledger is no reason to stop: to lose
        the lease takes another supervisor. But nobody looked after the runs then, and they are told so."""
        ttl_s = self._yard.settings.lease_ttl_s
        while True:
            await asyncio.sleep(ttl_s / 3)
            try:
                await adopt(self._yard)
                await self._yard.clock.sync()
            except Unavailable as error:
                _log.warning("lease not renewed", error=error.message)

    async def _listen(self) -> None:
        """The engine's events are hints: they wake whoever looks after the container, and no more."""
        while True:
            try:
                async with aclosing(self._yard.engine.events()) as hints:
                    async for hint in hints:
                        await self._heard(hint)
            except AnotherEngine:
                raise
            except JobyardError as error:
                self._yard.same.breaks += 1
                _log.warning("engine events interrupted", error=error.message)
            await asyncio.sleep(self._yard.settings.retry_s)

    async def _heard(self, hint: Hint) -> None:
        watch = self._yard.watch
        if hint == SUBSCRIBED:
            await self._yard.same.ask()
            for driven in self._drivers:  # whatever was missed is looked for
                watch.nudge(driven.job)
        elif (run := run_of(hint.labels)) is not None:
            watch.nudge(run.job)

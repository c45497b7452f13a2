"""Driving one run: look at its state, take the step that the state asks for, look again.

Every step can be cut off at any point and begun anew (`steps`), so a restart after a kill -9 is nothing
special: it just looks. What goes wrong with a step is settled here: waited for, tried again, or given up.
"""

from __future__ import annotations

import structlog

from service.domain import commands as cmd
from service.domain.events import Info
from service.domain.job import Job
from service.domain.notes import as_sentence
from service.domain.states import State
from service.errors import (
    EngineAway,
    EngineError,
    JobyardError,
    NodeFull,
    NotFound,
    StaleEpoch,
    Unavailable,
    WrongState,
)
from service.outward import names
from service.supervisor import container, sync, volumes
from service.supervisor.effects import FatalForRun, Yard
from service.supervisor.engine.refusals import without_paths
from service.supervisor.names import RunId
from service.supervisor.steps import Steps
from service.supervisor.waits import Waits

_log = structlog.get_logger()

#: How often in a row the engine may refuse, or an error happen that we cannot explain, before the run ends
#: with ERROR. Not answering does not count: that is waited for.
FAILURES = 3

KEPT = "What it was to push is kept on the node: jobyard job push-data pushes it."

#: Where the ledger does not take what there is to say.
_UNTOLD = FatalForRun(Info("internal-error", "The service failed at this run; its log says why."), ours=True)

#: The states in which a run waits for what others do; in those besides, its process goes on.
_WAITING = (State.INITIALIZING, State.PENDING, State.FINALIZING)


class RunDriver:
    """Drives one run until it has ended, or until it is cancelled: that leaves its container running."""

    def __init__(self, yard: Yard, run: RunId) -> None:
        self._yard = yard
        self._run = run
        self._waits = Waits(yard, run)
        self._steps = Steps(yard, run, self._waits)

    async def drive(self) -> bool:
        """True when something was left behind that a sweep should put away soon.

        Raises `StaleEpoch` when the engine is no longer ours; everything else it settles itself.
        """
        try:
            await self._drive()
        finally:
            await self._steps.stop()
        return await self._leave()

    async def _drive(self) -> None:
        waits = failures = 0
        while (job := self._job()) is not None:
            try:
                with names.asked_by(job.project):
                    await self._steps.take(job)
                waits = failures = 0
            except StaleEpoch:
                raise
            except (WrongState, NotFound):
                if not await self._looked_anew():
                    waits += 1
                    await self._waits.pause(job, waits)
            except FatalForRun as fatal:
                if not await self._gave_up(job, fatal):
                    waits += 1
                    await self._waits.pause(job, waits)
            except Unavailable as error:
                waits += 1
                _log.warning("run waits", job=str(job.id), run=job.run, state=job.state, error=error.message)
                await self._say_why(job, error, waits)
                await self._waits.pause(job, waits)
            except Exception as error:  # noqa: BLE001 (a run must never be left without anybody)
                failures += 1
                _log.exception("run step failed", job=str(job.id), run=job.run, state=job.state)
                if failures >= FAILURES:
                    await self._gave_up(job, _failure(error))
                await self._waits.pause(job, failures)

    async def _say_why(self, job: Job, error: Unavailable, waits: int) -> None:
        """The job waits for the engine, and not only for one answer of it; or for space on the disk."""
        try:
            if isinstance(error, NodeFull):
                await self._yard.note_full(job)
            elif isinstance(error, EngineAway) and waits > 1 and job.state in _WAITING:
                await self._yard.note(
                    job, "engine-not-answering", "The node's Docker Engine does not answer."
                )
        except (WrongState, NotFound, Unavailable) as error:
            _log.warning("not told", job=str(job.id), run=job.run, error=error.message)

    async def _leave(self) -> bool:
        """A run that ended with ERROR may have left a container, which the sweep puts away with its log."""
        try:
            job = await self._yard.ledger.find_job(self._run.job)
            if job is None or job.state is not State.ERROR or job.run != self._run.run:
                return False
            if await container.find(self._yard, self._run) is None:
                self._yard.end_log(self._run, gone=job.may_have_run)
        except (Unavailable, EngineError) as error:
            _log.warning("run left as it is", job=str(self._run.job), error=error.message)
            self._yard.open_logs.add(self._run)
        return True

    def _job(self) -> Job | None:
        """The job while this run of it is ours to drive."""
        job = self._yard.watch.jobs.get(self._run.job)
        return job if job is not None and job.run == self._run.run and self._steps.know(job.state) else None

    async def _looked_anew(self) -> bool:
        """Whether the ledger said how the job stands now."""
        try:
            await self._yard.watch.refresh(self._run.job)
        except Unavailable as error:
            _log.warning("run waits", job=str(self._run.job), run=self._run.run, error=error.message)
            return False
        return True

    async def _gave_up(self, job: Job, fatal: FatalForRun) -> bool:
        """Whether the ledger took it, or has something newer of the job.

        It must not end what is done for all other runs, whatever of it the ledger does not take.
        """
        try:
            await self._give_up(job, fatal)
        except StaleEpoch:
            raise
        except (WrongState, NotFound):
            return await self._looked_anew()
        except JobyardError as error:
            _log.warning("giving up was refused", job=str(job.id), run=job.run, error=error.message)
            if isinstance(error, Unavailable) or fatal is _UNTOLD:
                return False
            return await self._gave_up(job, _UNTOLD)
        return True

    async def _give_up(self, job: Job, fatal: FatalForRun) -> None:
        """FAILED when its user can mend it, ERROR when it was us."""
        can_abort = job.state in (State.INITIALIZING, State.PENDING, State.INTERRUPTING)
        if can_abort and not fatal.ours:
            await self._yard.report(cmd.AbortRun, job, info=fatal.info)
        else:
            await self._fail(self._job() or job, fatal)

    async def _fail(self, job: Job, fatal: FatalForRun) -> None:
        """ERROR. What the process may have made is its user's still, and is kept until it is pushed."""
        has_run = job.started_at is not None or container.is_lost(fatal)
        kept = sync.may_be_unpushed(job, has_run=has_run) and volumes.are_there(self._yard, job)
        message = as_sentence(fatal.info.message)
        if kept:
            volumes.keep(self._yard, self._run)
            message = f"{message} {KEPT}"
        info = Info(fatal.info.code, message, fatal.info.arguments)
        await self._yard.report(cmd.FailRun, job, info=info, volumes_kept=kept)


def _failure(error: Exception) -> FatalForRun:
    if isinstance(error, EngineError):
        return FatalForRun(
            Info("engine-refused", f"The engine refused: {without_paths(error.message)}"), ours=True
        )
    message = without_paths(error.message) if isinstance(error, JobyardError) else type(error).__name__
    return FatalForRun(Info("internal-error", f"The service failed at this run: {message}"), ours=True)

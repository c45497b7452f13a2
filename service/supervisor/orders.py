"""Data that is pulled or pushed because somebody asked for it while the job runs: beside its process, one
order after the other, and never in the way of its end."""

from __future__ import annotations

import asyncio

import structlog

from service.domain import commands as cmd
from service.domain.job import Job, SyncOrder
from service.errors import NotFound, StaleEpoch, Unavailable, WrongState
from service.supervisor import sync
from service.supervisor.effects import FatalForRun, Yard

_log = structlog.get_logger()

ENDED_FIRST = "The job ended first; what it may push is pushed as it ends."
OUR_FAULT = "The service failed at this; its log says more."


class Orders:
    """The orders of one run. Each stands in the ledger until it has an end there, so a restart goes on."""

    def __init__(self, yard: Yard) -> None:
        self._yard = yard
        self._task: asyncio.Task[None] | None = None

    def look(self, job: Job) -> None:
        """Begin the first order unless one is under way. Raises `StaleEpoch` that one has learnt of."""
        if self._task is not None and self._task.done():
            task, self._task = self._task, None
            task.result()
        if self._task is None and job.sync_orders:
            order = job.sync_orders[0]
            self._task = asyncio.create_task(self._carry_out(job, order), name=f"sync {order.id}")
            self._task.add_done_callback(lambda _: self._yard.watch.nudge(job.id))

    async def drop(self, job: Job) -> None:
        """The run is no longer RUNNING: stop what is under way, and say of every order that it ended."""
        await self.stop()
        for order in job.sync_orders:
            await self._end(job, order, ENDED_FIRST)

    async def _end(self, job: Job, order: SyncOrder, why: str) -> None:
        known = next((each for each in job.data_syncs if each.id == order.id), None)
        await self._yard.report(
            cmd.ReportDataSync,
            job,
            sync_id=order.id,
            direction=order.direction,
            state="FAILED",
            volumes=known.volumes if known else (),
            manual=True,
            message=why,
        )

    async def stop(self) -> None:
        """Let go of what is under way; its order stands."""
        if self._task is not None:
            task, self._task = self._task, None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _carry_out(self, job: Job, order: SyncOrder) -> None:
        """What fails is recorded with the order, and is no failure of the run."""
        try:
            await self._move(job, order)
        except StaleEpoch:
            raise
        except FatalForRun as fatal:
            _log.info("ordered sync failed", job=str(job.id), sync=order.id, code=fatal.info.code)
        except (WrongState, NotFound) as error:
            _log.info("ordered sync is over", job=str(job.id), sync=order.id, error=error.message)
            await self._yard.watch.refresh(job.id)
        except Unavailable as error:
            _log.warning("ordered sync waits", job=str(job.id), sync=order.id, error=error.message)
            await asyncio.sleep(self._yard.settings.retry_s)

    async def _move(self, job: Job, order: SyncOrder) -> None:
        """What nobody has thought of ends the order as well, which would else begin anew for ever. So does
        what fails before anything of it is told."""
        try:
            await sync.move_ordered(self._yard, job, order)
        except FatalForRun as fatal:
            now = self._yard.watch.jobs.get(job.id, job)
            if any(each.id == order.id for each in now.sync_orders):
                await self._end(now, order, fatal.info.message)
            raise
        except (StaleEpoch, WrongState, NotFound, Unavailable):
            raise
        except Exception:  # noqa: BLE001 (see above: whatever it is)
            _log.exception("ordered sync failed", job=str(job.id), sync=order.id)
            now = self._yard.watch.jobs.get(job.id, job)
            await self._end(now, order, OUR_FAULT)

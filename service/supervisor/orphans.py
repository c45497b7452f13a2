"""Runs of an engine that is gone: nobody will ever say of them how they ended.

An engine is known by the id that its own data has. Where that was lost, or the service was given another
engine or machine under the same node's name, the runs of the one before have nobody. They are not begun again
elsewhere: one whose engine comes back after all may still be at work, and must stay the only one. What they
may have made outlives the engine: it lies in the state directory, and is kept and pushed as ever. That may
be on a disk which is not mounted, or on another machine: it is kept there, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from service.domain import commands as cmd
from service.domain.events import Info
from service.domain.job import ENGINE_GONE, Job
from service.domain.states import PLACED
from service.errors import NotFound, WrongState
from service.supervisor import sync, volumes
from service.supervisor.driver import KEPT
from service.supervisor.effects import Yard
from service.supervisor.names import RunId
from service.supervisor.push_again import is_ordered
from service.supervisor.stead import Stead

#: An engine is gone when nobody renewed its lease for so many times what one lasts, and we saw that ourselves
#: for as long: after an outage of the ledger, those that live need a moment to say so.
LEASES_OVER = 6

NOT_HERE = (
    "What it was to push is not on this node now. It is kept where it is: once that is here again, "
    "jobyard job push-data pushes it."
)


class Orphans:
    """Looks for them, now and then. Those that have not ended end with ERROR; of others what was kept can be
    pushed in the `stead` of their engine."""

    def __init__(self, yard: Yard, stead: Stead, ticks: Callable[[], float] | None = None) -> None:
        self._yard = yard
        self._stead = stead
        self._ticks = ticks or asyncio.get_running_loop().time
        self._unheld_since: dict[str, float] = {}
        self._gone: set[str] = set()

    async def look(self) -> bool:
        """Whether any is to be pushed. Raises `Unavailable`, `StaleEpoch` and `OSError`."""
        found = [job for job in list(self._yard.watch.jobs.values()) if self._is_of_another(job)]
        self._gone = await self._seen_gone() if found else set()
        included = [job for job in found if self.include(job)]
        for job in included:
            if job.state in PLACED:
                with suppress(WrongState, NotFound):  # it moved on meanwhile: so somebody has it
                    await self._end(job)
        return any(is_ordered(job) for job in included)

    def include(self, job: Job) -> bool:
        """As the last look saw it."""
        return self._is_of_another(job) and job.engine in self._gone

    def _is_of_another(self, job: Job) -> bool:
        """Of this node by its name, and of another engine. Another node's are its own supervisor's."""
        yard = self._yard
        has_work = job.state in PLACED or is_ordered(job)
        return has_work and job.engine != yard.engine_id and job.node == yard.settings.node

    async def _seen_gone(self) -> set[str]:
        """Engines whose lease is over, and was at every look for long enough; or is ours in their stead."""
        enough_s = LEASES_OVER * self._yard.settings.lease_ttl_s
        now = self._ticks()
        unheld = {
            each.engine
            for each in await self._yard.ledger.leases()
            if each.seen_s > enough_s and (not each.held or self._stead.has(each.engine))
        }
        self._unheld_since = {engine: self._unheld_since.get(engine, now) for engine in unheld}
        return {engine for engine, since in self._unheld_since.items() if now - since >= enough_s}

    async def _end(self, job: Job) -> None:
        """What its process may have made is kept, also where it is not here: the engine may come back, with a
        disk that was not mounted or on a machine of its own, and its sweep removes what is not kept."""
        yard, run = self._yard, RunId(job.id, job.run)
        kept = sync.may_be_unpushed(job, has_run=job.may_have_run)
        is_here = kept and volumes.lie_here(yard, job)
        has_log = yard.keeper.is_here(job.id, job.run)
        if is_here:
            volumes.keep(yard, run)
        of_its_data = KEPT if is_here else NOT_HERE if kept else ""
        await yard.report(cmd.FailRun, job, info=_gone(job, yard.engine_id, of_its_data), volumes_kept=kept)
        # Where nothing is here of what it may have printed, no log is made that looks as if that was all:
        # whoever reads it is told that there is none, and the engine may have it still, if it comes back.
        if has_log or not job.may_have_run:
            yard.end_log(run, gone=job.may_have_run)
        yard.untidy.set()


def _gone(job: Job, ours: str, of_its_data: str) -> Info:
    if job.exit_code is not None:
        end = f"Its process had ended with code {job.exit_code}, and the run was not over"
    elif job.may_have_run:
        end = "How the process ended cannot be known"
    else:
        end = "Its process had not begun"
    message = (
        f"The Docker Engine that ran it is gone: node {job.node} has another one now, and nobody looks after "
        f"the one before. {end}; it is not begun again. It costs nothing. {of_its_data}"
    )
    return Info(ENGINE_GONE, message.rstrip(), {"engine": str(job.engine), "now": ours})

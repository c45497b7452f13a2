"""Runs of an engine that is gone: nobody will ever say of them how they ended.

An engine is known by the id that its own data has. Where that was lost, or the service was given another
engine or machine under the same node's name, the runs of the one before have nobody. They are not begun again
elsewhere: one whose engine comes back after all may still be at work, and must stay the only one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from service.domain import commands as cmd
from service.domain.events import Info
from service.domain.job import Job
from service.domain.states import PLACED
from service.errors import NotFound, WrongState
from service.supervisor.effects import Yard
from service.supervisor.names import RunId

#: An engine is gone when nobody renewed its lease for so many times what one lasts, and we saw that ourselves
#: for as long: after an outage of the ledger, those that live need a moment to say so.
LEASES_OVER = 6


class Orphans:
    """Looks for them, now and then, and ends them with ERROR."""

    def __init__(self, yard: Yard, ticks: Callable[[], float] | None = None) -> None:
        self._yard = yard
        self._ticks = ticks or asyncio.get_running_loop().time
        self._unheld_since: dict[str, float] = {}

    async def look(self) -> None:
        """Raises `Unavailable` and `StaleEpoch`."""
        yard = self._yard
        found = [job for job in list(yard.watch.jobs.values()) if self._is_of_another(job)]
        gone = await self._gone() if found else set()
        for job in found:
            if job.engine in gone:
                with suppress(WrongState, NotFound):  # it moved on meanwhile: so somebody has it
                    await yard.report(cmd.FailRun, job, info=_gone(job, yard.engine_id))
                    yard.end_log(RunId(job.id, job.run))
                    yard.untidy.set()

    def _is_of_another(self, job: Job) -> bool:
        """Of this node by its name, and of another engine. Another node's are its own supervisor's."""
        yard = self._yard
        return job.state in PLACED and job.engine != yard.engine_id and job.node == yard.settings.node

    async def _gone(self) -> set[str]:
        """Engines whose lease is over, and was at every look for long enough."""
        enough_s = LEASES_OVER * self._yard.settings.lease_ttl_s
        now = self._ticks()
        unheld = {
            each.engine
            for each in await self._yard.ledger.leases()
            if not each.held and each.seen_s > enough_s and each.engine != self._yard.engine_id
        }
        self._unheld_since = {engine: self._unheld_since.get(engine, now) for engine in unheld}
        return {engine for engine, since in self._unheld_since.items() if now - since >= enough_s}


def _gone(job: Job, ours: str) -> Info:
    message = (
        f"The Docker Engine that ran it is gone: node {job.node} has another one now, and nobody looks after "
        "the one before. How the process ended cannot be known, and it is not begun again. It costs nothing."
    )
    return Info("engine-gone", message, {"engine": str(job.engine), "now": ours})

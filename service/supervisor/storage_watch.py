"""Looking again and again what a run takes of its node's storage, beside its process.

Looking has its price, and a job can make it dear: so all watchers of a supervisor together take a small share
of a processor, and whoever costs more is looked at less often. What cannot be looked at is logged and looked
for again; it counts for nothing either way.
"""

from __future__ import annotations

import asyncio
from functools import partial

import structlog

from service.domain.job import Job
from service.errors import JobyardError
from service.supervisor import own_storage
from service.supervisor.effects import Yard
from service.supervisor.storage.usage import Usage

_log = structlog.get_logger()

#: So many looks in a row must find too much. One look takes time, in which files can move to where it is yet
#: to look, or be deleted where it has been.
LOOKS = 2


class StorageWatch:
    """Watches the storage of one run while it is RUNNING."""

    def __init__(self, yard: Yard) -> None:
        self._yard = yard
        self._task: asyncio.Task[int] | None = None

    def look(self, job: Job, container_id: str) -> int | None:
        """The bytes that the run takes, once they are more than it may; begins to watch if need be."""
        if self._task is None:
            self._task = asyncio.create_task(self._watch(job, container_id), name=f"storage {job.id}")
            self._task.add_done_callback(lambda _: self._yard.watch.nudge(job.id))
        return self._task.result() if self._task.done() else None

    async def stop(self) -> None:
        if self._task is not None:
            task, self._task = self._task, None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _watch(self, job: Job, container_id: str) -> int:
        limit, least_s = job.spec.resources.ephemeral_storage, self._yard.settings.storage_check_s
        beyond: list[int] = []
        trouble: tuple[str, ...] = ()
        with self._yard.storage.one_more():
            pause_s = least_s
            while True:
                await asyncio.sleep(pause_s)
                usage = await self._usage(job, container_id)
                if usage.missed != trouble:
                    trouble = usage.missed
                    said = "storage not all seen" if trouble else "storage seen again"
                    _log.warning(said, job=str(job.id), run=job.run, missed=trouble)
                beyond = [*beyond, usage.bytes] if usage.bytes > limit else []
                if len(beyond) >= LOOKS:
                    _log.info("storage exceeded", job=str(job.id), run=job.run, used=beyond, limit=limit)
                    return beyond[-1]
                again = 0.0 if beyond else least_s
                pause_s = self._yard.storage.pause_s(usage.cost_s, again)

    async def _usage(self, job: Job, container_id: str) -> Usage:
        """What can be seen of it at this moment: each part by itself, as one can fail."""
        usage = Usage(0)
        folders = own_storage.folders(self._yard, job, written=True)
        parts = [partial(own_storage.taken, [folder]) for folder in folders]
        for part in (partial(self._yard.engine.usage, container_id), *parts):
            try:
                usage += await part()
            except (JobyardError, OSError) as error:
                usage += Usage(0, (str(error),))
            except Exception as error:  # noqa: BLE001 (looking must never harm the run that is looked at)
                _log.exception("storage cannot be added up", job=str(job.id), run=job.run)
                usage += Usage(0, (type(error).__name__,))
        return usage

"""Waiting for what becomes of one run, and no longer than its job stands as it did."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from service.domain.job import Job
from service.supervisor.effects import Yard
from service.supervisor.names import RunId
from service.tasks import dropped

T = TypeVar("T")

LONGEST_PAUSE_S = 15.0
#: Between two attempts at what a registry or a store is to answer.
LONGEST_RETRY_S = 30.0
_DOUBLINGS = 16
"""At most: there can be more troubles in a row than a float can be doubled."""


def pause_s(first_s: float, troubles: int, longest_s: float) -> float:
    """How long to wait after so many troubles in a row: `first_s`, then twice as long each time, and never
    longer than `longest_s`."""
    return min(longest_s, first_s * 2.0 ** min(troubles - 1, _DOUBLINGS))


class Waits:
    """The waits of one run's driver: a word about its job, or about its container, ends each."""

    def __init__(self, yard: Yard, run: RunId) -> None:
        self._yard = yard
        self._signal = yard.watch.signal(run.job)

    def heard(self) -> None:
        """All that came until now is about to be looked at."""
        self._signal.clear()

    def changed(self, job: Job) -> bool:
        """Whether the job is in another state, or run, than in `job`."""
        now = self._yard.watch.jobs.get(job.id)
        return now is None or (now.run, now.state) != (job.run, job.state)

    async def wait(self, seconds: float) -> None:
        """Until there is word, and at most so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._signal.wait()
        except TimeoutError:
            return

    async def pause(self, job: Job, troubles: int) -> None:
        """Wait longer after each trouble in a row, but not when the job has moved on meanwhile."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + pause_s(self._yard.settings.retry_s, troubles, LONGEST_PAUSE_S)
        while (left_s := ends - loop.time()) > 0:
            self._signal.clear()
            if self.changed(job):
                return
            await self.wait(left_s)

    async def unless_interrupted(self, job: Job, work: Awaitable[T]) -> bool:
        """Do the work, and drop it as soon as the job leaves its state; False when it was dropped."""
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                self._signal.clear()
                if self.changed(job):
                    return False
                signalled = asyncio.ensure_future(self._signal.wait())
                try:
                    await asyncio.wait({task, signalled}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    signalled.cancel()
            await task
            return True
        finally:
            await dropped(task)

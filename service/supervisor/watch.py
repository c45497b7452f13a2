"""The supervisor's view of the jobs it has to look after: loaded once, then kept by following the ledger.

It holds every job that has not ended, and ended ones whose volumes are to be pushed again. Positions
decide what is newer, so it does not matter from where a state came first. That holds for one history: when a
failover has lost events, what others wrote at their positions would be older than what is known. So each look
proves that the ledger still has all that a state here came of, and where it has not, the epoch ends.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from uuid import UUID

import structlog

from service.domain.events import JOB_BODIES, Event
from service.domain.evolve import evolve
from service.domain.job import Job
from service.errors import NotFound, Unavailable
from service.ledger.follow import Had
from service.supervisor.ports import SupervisorLedger

_log = structlog.get_logger()
_BODIES = frozenset(JOB_BODIES)
_GONE_KEPT = 10_000


class Watch:
    """Jobs by id. `stirred` is set whenever something changed; `signal(job)` when that job did."""

    def __init__(
        self, ledger: SupervisorLedger, retry_s: float, on_unplaced_end: Callable[[Job], None]
    ) -> None:
        """`on_unplaced_end` hears of jobs that ended before they had a place, and so never had a driver. It
        does not raise: whatever it cannot do, the other jobs are still to be heard of."""
        self._on_unplaced_end = on_unplaced_end
        self._ledger = ledger
        self._retry_s = retry_s
        self._signals: dict[UUID, asyncio.Event] = defaultdict(asyncio.Event)
        self._had = Had()
        self._gone: OrderedDict[UUID, int] = OrderedDict()
        self.jobs: dict[UUID, Job] = {}
        self.stirred = asyncio.Event()

    async def load(self) -> None:
        """Read everything that is live. What happens meanwhile is caught up with by `run`."""
        self._had.read_to((await self._ledger.head()).mark)
        jobs = await self._ledger.live_jobs()
        self._had.saw((await self._ledger.head()).mark)
        for job in jobs:
            self.put(job)

    async def run(self) -> None:
        """Follow the ledger for ever, from where `load` began. Raises `EventsLost`: what is known here may be
        of events that never were, and only a new epoch begins without it."""
        while True:
            try:
                async for portion in self._ledger.follow_on(self._had):
                    await self.apply(portion.events)
                    self._had.read_to(portion.end)
            except Unavailable as error:
                _log.warning("ledger cannot be followed", error=error.message)
                await asyncio.sleep(self._retry_s)

    async def apply(self, events: Iterable[Event]) -> None:
        for event in events:
            if event.job is None or type(event.body) not in _BODIES:
                continue
            known = self.jobs.get(event.job)
            if known is not None and event.position > known.position:
                self.put(evolve(known, event))
            elif known is None and event.position > self._gone.get(event.job, 0):
                await self.refresh(event.job)

    async def refresh(self, job: UUID) -> Job | None:
        """The job as the ledger has it now."""
        try:
            fresh, end = await self._ledger.job_seen(job)
        except NotFound:
            self.forget(job)
            return None
        self._had.saw(end)
        self.put(fresh)
        return self.jobs.get(job)

    def put(self, job: Job) -> None:
        """Take in a state of a job, unless it is known in this one or a newer: also as over, and gone."""
        known = self.jobs.get(job.id)
        if job.position <= (known.position if known is not None else self._gone.get(job.id, 0)):
            return
        if (job.ended and job.push_ordered is None) or job.deleted:
            self._gone[job.id] = max(job.position, self._gone.get(job.id, 0))
            while len(self._gone) > _GONE_KEPT:
                self._gone.popitem(last=False)
            self.forget(job.id)
            if job.initializing_at is None:
                self._on_unplaced_end(job)
            return
        self.jobs[job.id] = job
        self._tell(job.id)

    def forget(self, job: UUID) -> None:
        self.jobs.pop(job, None)
        self._tell(job)
        self._signals.pop(job, None)

    def signal(self, job: UUID) -> asyncio.Event:
        """Set when the job changed, or when its container may have. Clear it before looking."""
        return self._signals[job]

    def nudge(self, job: UUID) -> None:
        """Something happened to the job's container: whoever looks after it should look."""
        self._tell(job)

    def _tell(self, job: UUID) -> None:
        if job in self._signals:
            self._signals[job].set()
        self.stirred.set()

"""The yard as a supervisor's plans saw it, after any event of the past: what was placed and what was queued.

A plan needs of the ledger only the moves of jobs and the words of supervisors as they began. The node is that
of the supervisor that began last: there is one at a time (README, "One machine").
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import lru_cache
from uuid import UUID

from service.domain import events as ev
from service.domain.events import Event, Info
from service.domain.evolve import evolve
from service.domain.job import Job
from service.domain.scheduling import Need, Node, Plan, plan
from service.domain.states import PLACED, State

#: The events that a plan depends on; the others of a job leave it where it is.
MOVES = (
    ev.JobSubmitted,
    ev.RunQueued,
    ev.RunPlaced,
    ev.RunPrepared,
    ev.RunStarted,
    ev.InterruptOrdered,
    ev.TimeoutReached,
    ev.StorageExceeded,
    ev.RunExited,
    ev.RunAborted,
    ev.RunFinalized,
    ev.RunErrored,
    ev.RunAdopted,
)
MOVE_TYPES = tuple(body.__name__ for body in MOVES)


class Floor:
    """What is placed and what is queued, and the node: `began` is its supervisor, None before there was any.

    Whoever comes to the queue comes to its end, so that both are in the order of the queue without sorting.
    """

    def __init__(self) -> None:
        self.began: ev.SupervisorStarted | None = None
        self.first_since: dict[UUID, datetime] = {}
        self.stopped: Info | None = None
        self._lines: dict[str, dict[UUID, Job]] = defaultdict(dict)
        self._placed: dict[UUID, Job] = {}

    def begin(self, supervisor: ev.SupervisorStarted) -> None:
        """It remembers nothing of the one before."""
        self.began, self.first_since, self.stopped = supervisor, {}, None

    def queue(self, job: Job) -> None:
        self._lines[job.project][job.id] = job
        self._placed.pop(job.id, None)

    def place(self, job: Job) -> None:
        self._lines[job.project].pop(job.id, None)
        self._placed[job.id] = job

    def leave(self, job: Job) -> None:
        self._lines[job.project].pop(job.id, None)
        self._placed.pop(job.id, None)

    @property
    def patience_s(self) -> float:
        return self.began.patience_ms / 1000 if self.began else 0.0

    def placed(self) -> list[Job]:
        """What holds a part of the node."""
        engine = self.began.engine if self.began else None
        return [job for job in self._placed.values() if job.engine == engine]

    def line(self, project: str) -> Iterable[Job]:
        """A project's queue, in order."""
        return self._lines[project].values()

    def node(self) -> Node | None:
        """What the node offers. Older supervisors counted their devices only: those get names here."""
        if self.began is None:
            return None
        devices = self.began.devices
        if len(devices) != self.began.gpus:
            held = [gpu for job in self.placed() for gpu in job.gpus]
            devices = tuple(dict.fromkeys([*held, *_spare(self.began.gpus)]))[: self.began.gpus]
        return Node(
            name=self.began.node,
            cpus=self.began.cpus,
            memory_bytes=self.began.memory,
            gpus=devices,
            gpu_trouble=self.began.gpu_trouble,
        )

    def planned(self, now: datetime, *, about: UUID | None = None) -> Plan | None:
        """The plan of this moment; None without a node. What it says of `about`, it says of the whole queue.

        Every job needs a CPU at least, so that of each line no more than the free ones can be placed: what
        stands behind them changes nothing for anybody but itself, and is left out.
        """
        node = self.node()
        if node is None:
            return None
        placed = self.placed()
        queued = self._contenders(node, placed, about)
        made = plan(node, placed, queued, now, self.patience_s, self.first_since, self.stopped)
        self.first_since = {job: self.first_since.get(job, now) for job in made.first}
        return made

    def _contenders(self, node: Node, placed: Iterable[Job], about: UUID | None) -> list[Job]:
        most = max(0, node.cpus - sum(job.spec.resources.cpus for job in placed)) + 1
        found: list[Job] = []
        for line in self._lines.values():
            left = most
            for job in line.values():
                if left > 0 and fits(node, job):
                    found.append(job)
                    left -= 1
                elif job.id == about:
                    found.append(job)
                elif left <= 0 and about not in line:
                    break
        return found

    def next_tired(self, after: datetime) -> datetime | None:
        """When the next job will have been first for as long as the patience lasts."""
        patience = timedelta(seconds=self.patience_s)
        due = [since + patience for since in self.first_since.values() if since + patience > after]
        return min(due, default=None)


class PastYard(Floor):
    """The floor as the ledger's events make it; `jobs` are those that there have been, by id."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: dict[UUID, Job] = {}

    def apply(self, event: Event) -> None:
        """Take in one event. Those of a job must come from its beginning."""
        if isinstance(event.body, ev.SupervisorStarted):
            self.begin(event.body)
        elif isinstance(event.body, ev.AdmissionSet):
            self.stopped = event.body.stopped
        elif event.job is not None and isinstance(event.body, MOVES):
            job = evolve(self.jobs.get(event.job), event)
            self.jobs[job.id] = job
            if job.state is State.QUEUED:
                self.queue(job)
            elif job.state in PLACED:
                self.place(job)
            else:
                self.leave(job)


@lru_cache(maxsize=8)
def _spare(count: int) -> tuple[str, ...]:
    return tuple(f"#{number}" for number in range(count))


def fits(node: Node, job: Job) -> bool:
    """Whether the empty node could hold it."""
    return Need.of(job).lacking(Need(node.cpus, node.memory_bytes, len(node.gpus))) is None

"""A yard that lives through a day in no time: the real decide and folds, the real plan, and jobs that take as
long as they are told. Its supervisor reacts late, is away now and then, and forgets when it comes back.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from service.domain import commands as cmd
from service.domain.events import Event
from service.domain.flavors import DEFAULT_CATALOGUE, GIB, Kind
from service.domain.job import Job
from service.domain.scheduling import Node, plan
from service.domain.spec import JobSpec, Resources
from service.domain.states import PLACED, State
from service.errors import Rejected
from tests.support import jobs
from tests.support.jobs import ENGINE, EPOCH, NODE, PRICES, T0
from tests.support.pure import PureLedger

FLAVORS: dict[Kind, str] = {
    kind: found.id for kind in ("cpu", "gpu") if (found := DEFAULT_CATALOGUE.default(kind)) is not None
}


@dataclass(frozen=True)
class Lasts:
    """Seconds that a run spends on its data, on its start, on its work and on its end."""

    init_s: float = 1
    start_s: float = 1
    run_s: float = 60
    end_s: float = 1


@dataclass
class Story:
    """Say what happens when with `at`, then `tell` it; `ledger` has the events."""

    cpus: int = 4
    memory: int = 64 * GIB
    gpus: tuple[str, ...] = ()
    patience_s: float = 300.0
    reaction_s: float = 0.02
    projects: dict[str, tuple[int, int]] = field(default_factory=lambda: {"a": (100, 100), "b": (100, 100)})
    ledger: PureLedger = field(default_factory=PureLedger)
    lasts: dict[UUID, Lasts] = field(default_factory=dict)
    answers: list[Any] = field(default_factory=list)
    there: bool = True
    _made: int = 0
    _entries: int = 0
    _heap: list[tuple[datetime, int, Callable[[], None]]] = field(default_factory=list)
    _first_since: dict[UUID, datetime] = field(default_factory=dict)
    _seen: datetime = T0
    _due: set[datetime] = field(default_factory=set)

    def __post_init__(self) -> None:
        made = [
            cmd.CreateProject(project=name, name=name, cpu=cpu, gpu=gpu)
            for name, (cpu, gpu) in self.projects.items()
        ]
        self.do(cmd.SetPrices(prices=PRICES, currency="EUR"), *made)
        self.do(self._beginning(None))

    @property
    def events(self) -> list[Event]:
        return self.ledger.events

    @property
    def node(self) -> Node:
        return Node(NODE, self.cpus, self.memory, self.gpus)

    # -- what may happen ------------------------------------------------------------------------------

    def at(self, seconds: float, what: Callable[[], None]) -> None:
        self._later(T0 + timedelta(seconds=seconds), what)

    def submit(
        self, seconds: float, project: str = "a", lasts: Lasts | None = None, name: str = "", **needs: Any
    ) -> UUID:
        """A job that is asked for then; it may be refused."""
        self._made += 1
        job = UUID(int=0xABCD0000 + self._made)
        self.lasts[job] = lasts or Lasts()
        command = cmd.SubmitJob(
            project=project, job=job, spec=spec(name or f"j{self._made}", **needs), user="ada"
        )
        self.at(seconds, lambda: self.do(command))
        return job

    def kill(self, seconds: float, job: UUID) -> None:
        self.at(seconds, lambda: self._order(cmd.KillJob, job))

    def restart(self, seconds: float, job: UUID) -> None:
        self.at(seconds, lambda: self._order(cmd.StartJob, job))

    def _order(self, kind: type[cmd.KillJob | cmd.StartJob], job: UUID) -> None:
        """Unless the job was refused."""
        if ("status", str(job)) in self.ledger.rows and (known := self.job(job)) is not None:
            self.do(kind(project=known.project, job=job))

    def set_quota(self, seconds: float, project: str, **limits: int) -> None:
        self.at(seconds, lambda: self.do(cmd.SetQuota(project=project, **limits)))

    def set_prices(self, seconds: float, factor: int) -> None:
        prices = {flavor: price * factor for flavor, price in PRICES.items()}
        self.at(seconds, lambda: self.do(cmd.SetPrices(prices=prices, currency="EUR")))

    def away(self, seconds: float, until: float, **now_has: Any) -> None:
        """Nobody looks after the node in between; then one begins that may find another node."""

        def goes() -> None:
            self.there, self._seen = False, self.ledger.now

        def comes() -> None:
            for name, value in now_has.items():
                setattr(self, name, value)
            self.there, self._first_since = True, {}
            self.do(self._beginning(self._seen))
            for job in self._live():
                if job.state in PLACED:
                    self.do(cmd.AdoptRun(**self._of(job), absent_since=self._seen))

        self.at(seconds, goes)
        self.at(until, comes)

    # -- telling --------------------------------------------------------------------------------------

    def tell(self, upto: float | None = None) -> Story:
        """Let all of it happen, or as much as happens before `upto` seconds."""
        end = None if upto is None else T0 + timedelta(seconds=upto)
        while self._heap and (end is None or self._heap[0][0] < end):
            at, _, what = heapq.heappop(self._heap)
            self.ledger.now = max(at, self.ledger.now)
            what()
        if end is not None:
            self.ledger.now = end
        return self

    def do(self, *commands: cmd.Command) -> None:
        """One commit; whoever is refused is refused. The supervisor hears of it a moment later."""
        answers = self.ledger.commit(commands)
        self.answers += answers
        for answer in answers:
            if not isinstance(answer, Rejected):
                for event in answer:
                    self._follows(event)
        self._later(self.ledger.now + timedelta(seconds=self.reaction_s), self._shift)

    def job(self, job: UUID) -> Job:
        found: Job = self.ledger.rows.get("status", str(job))
        return found

    def _beginning(self, absent_since: datetime | None) -> cmd.StartSupervisor:
        return cmd.StartSupervisor(
            engine=ENGINE,
            epoch=EPOCH,
            node=NODE,
            absent_since=absent_since,
            cpus=self.cpus,
            memory=self.memory,
            gpus=len(self.gpus),
            devices=self.gpus,
            patience_ms=round(self.patience_s * 1000),
        )

    def _later(self, at: datetime, what: Callable[[], None]) -> None:
        self._entries += 1
        heapq.heappush(self._heap, (at, self._entries, what))

    def _live(self) -> list[Job]:
        rows = (row for (fold, _), row in self.ledger.rows.items() if fold == "status" and row is not None)
        return [row for row in rows if not row.ended]

    def _shift(self) -> None:
        """What the supervisor does when something stirred, or when its poll comes round."""
        if not self.there:
            return
        live, now = self._live(), self.ledger.now
        placed = [job for job in live if job.state in PLACED]
        queued = [job for job in live if job.state is State.QUEUED]
        made = plan(self.node, placed, queued, now, self.patience_s, self._first_since)
        self._first_since = {job: self._first_since.get(job, now) for job in made.first}
        for placement in made.placements:
            self.ledger.wait(0.001)
            self.do(cmd.PlaceRun(**self._of(placement.job), node=NODE, gpus=placement.gpus))
        for job in queued:
            if (reason := made.reasons.get(job.id)) is not None and reason != job.info:
                self.do(cmd.NoteRun(**self._of(job), info=reason))
        for since in self._first_since.values():
            due = since + timedelta(seconds=self.patience_s)
            if due > now and due not in self._due:
                self._due.add(due)
                self._later(due, self._shift)

    def _of(self, job: Job) -> dict[str, Any]:
        return jobs.of_run(job.id, job.run, job.project)

    def _follows(self, event: Event) -> None:
        """The run's next step, when the time has come."""
        if event.job is None or getattr(event.body, "target", None) is None:
            return
        lasts, job = self.lasts[event.job], self.job(event.job)
        steps: dict[State, tuple[float, Callable[[], cmd.Command]]] = {
            State.INITIALIZING: (lasts.init_s, lambda: cmd.ReportPrepared(**self._of(job))),
            State.PENDING: (lasts.start_s, lambda: jobs.started(self.ledger.now, **self._of(job))),
            State.RUNNING: (lasts.run_s, lambda: jobs.exited(self.ledger.now, **self._of(job))),
            State.INTERRUPTING: (0.1, lambda: self._stopped(job)),
            State.FINALIZING: (lasts.end_s, lambda: cmd.FinalizeRun(**self._of(job))),
        }
        if job.state in steps:
            after_s, make = steps[job.state]
            self._later(self.ledger.now + timedelta(seconds=after_s), lambda: self._step(job, make))

    def _stopped(self, job: Job) -> cmd.Command:
        if job.started_at is None:
            return jobs.abort(**self._of(job))
        return jobs.exited(self.ledger.now, 143, **self._of(job))

    def _step(self, job: Job, make: Callable[[], cmd.Command]) -> None:
        """Unless the run has moved on meanwhile, as by an interrupt. Without a supervisor it waits."""
        now = self.job(job.id)
        if (now.run, now.state) != (job.run, job.state):
            return
        if not self.there:
            self._later(self.ledger.now + timedelta(seconds=1), lambda: self._step(job, make))
            return
        self.do(make())


def spec(name: str, *, cpus: int = 0, gpus: int = 0, memory: int = 1, **more: Any) -> JobSpec:
    """So many CPUs, or GPUs with a CPU each unless told otherwise, and GiB of memory."""
    kind: Kind = "gpu" if gpus else "cpu"
    resources = Resources(
        kind=kind,
        units=gpus or cpus or 1,
        flavor=FLAVORS[kind],
        cpus=cpus or gpus or 1,
        memory=memory * GIB,
        ephemeral_storage=GIB,
    )
    return JobSpec(image="busybox", name=name, resources=resources, timeout=10**7, **more)

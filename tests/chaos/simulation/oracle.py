"""What must be true after every step, worked out apart from the product where it can be."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from pathlib import Path
from typing import Any
from uuid import UUID

from service.domain.events import AdmissionSet, Event, InterruptOrdered, Move, RunFinalized, SupervisorStarted
from service.domain.evolve import evolve
from service.domain.job import Job
from service.ledger.chain import event_of, link, sealing_of
from service.supervisor.names import RunId, run_of
from tests.billing import calculator
from tests.billing.calculator import Facts, microseconds
from tests.chaos.simulation.docker import INPUT, output
from tests.chaos.simulation.postgres import BEGINNING, Postgres, Record
from tests.chaos.simulation.process import Process
from tests.chaos.simulation.stores import Objects
from tests.chaos.simulation.truth import Truth
from tests.support.engine.scripted import FakeContainer

COUNTED = {"QUEUED", "INITIALIZING", "PENDING", "RUNNING"}
ENDED = {"DONE", "FAILED", "INTERRUPTED", "ERROR"}
#: design.md, "The state machine", with ERROR from any live state.
ARROWS = {
    "None": {"QUEUED"},
    "QUEUED": {"INITIALIZING", "INTERRUPTED", "ERROR"},
    "INITIALIZING": {"PENDING", "INTERRUPTING", "FINALIZING", "ERROR"},
    "PENDING": {"RUNNING", "INTERRUPTING", "FINALIZING", "ERROR"},
    "RUNNING": {"INTERRUPTING", "TIMEOUT", "FINALIZING", "ERROR"},
    "INTERRUPTING": {"FINALIZING", "ERROR"},
    "TIMEOUT": {"FINALIZING", "ERROR"},
    "FINALIZING": {"DONE", "FAILED", "INTERRUPTED", "QUEUED", "ERROR"},
    "DONE": {"QUEUED"},
    "FAILED": {"QUEUED"},
    "INTERRUPTED": {"QUEUED"},
}  # fmt: skip
MILLION = 1_000_000


class Broken(AssertionError):
    """An invariant does not hold."""


def require(holds: bool, what: str) -> None:
    if not holds:
        raise Broken(what)


class Oracle:
    """Hears of every commit and of every effect on the engine; `broken` is the first thing that was wrong."""

    def __init__(self, server: Postgres, objects: Objects) -> None:
        self._server = server
        self.truth = Truth(server, objects)
        self._objects = objects
        self._trace = hashlib.sha256()
        self._hash, self._position, self._recorded_at = server.hash, 0, BEGINNING
        self._jobs: dict[UUID, Job] = {}
        self._facts: dict[RunId, Facts] = defaultdict(Facts)
        self._occurred: dict[UUID, Any] = {}
        self._started: set[RunId] = set()
        #: Runs whose container was put away as one that never began, and had begun, and ended.
        self._fenced: set[RunId] = set()
        self._epoch = 0
        self._full = False
        self.broken: str | None = None
        self.steps = 0

    @property
    def trace(self) -> str:
        return self._trace.hexdigest()

    def note(self, line: str) -> None:
        self.steps += 1
        self._trace.update(line.encode() + b"\n")

    def _checked(self, check: Any, *args: Any) -> None:
        try:
            check(*args)
        except AssertionError as error:
            self.broken = self.broken or str(error)

    def repeated(self, command: UUID) -> None:
        self.wrong(f"command {command} was carried out twice")

    def wrong(self, what: str) -> None:
        self.broken = self.broken or what

    # -- commits ----------------------------------------------------------------------------------------

    def commit(self, process: Process, records: list[Record]) -> None:
        for record in records:
            self.note(f"event {record['position']} {record['type']} {record['hash'].hex()}")
            self._checked(self._in_order, record)
            self._checked(self._of_this_epoch, process, record)
            self._checked(self._event, event_of(record))
        self._checked(self._quota)

    def _in_order(self, record: Record) -> None:
        where = f"event {record['position']}"
        require(record["position"] == self._position + 1, f"{where} follows {self._position}")
        require(record["hash"] == link(self._hash, sealing_of(record)), f"{where} breaks the chain")
        require(record["recorded_at"] >= self._recorded_at, f"{where} was recorded before the last")
        require(record["occurred_at"] <= record["recorded_at"], f"{where} happened after it was recorded")
        self._position, self._hash = record["position"], record["hash"]
        self._recorded_at = record["recorded_at"]

    def _of_this_epoch(self, process: Process, record: Record) -> None:
        if record["actor"].startswith("supervisor:"):
            # A lease may be taken while a commit is on its way: its taker begins after that.
            epoch = process.epoch or 0
            require(epoch >= self._epoch, f"event {record['position']} has a stale epoch {epoch}")
            if record["type"] == "SupervisorStarted":
                self._epoch = epoch

    def _event(self, event: Event) -> None:
        if isinstance(event.body, AdmissionSet | SupervisorStarted):
            self._full = getattr(event.body, "stopped", None) is not None
        if event.job is None or event.run is None:
            return
        run = RunId(event.job, event.run)
        before = self._jobs.get(run.job)
        after = self._jobs[run.job] = evolve(before, event)
        if isinstance(event.body, Move):
            source, target = str(before.state) if before else "None", str(event.body.target)
            require(str(event.body.source) == source, f"{run} moves from {event.body.source}, is {source}")
            # An order to interrupt what ends already is kept, and moves nothing.
            stays = isinstance(event.body, InterruptOrdered) and source in ("TIMEOUT", "FINALIZING")
            legal = ARROWS.get(source, set()) | ({source} if stays else set())
            require(target in legal, f"{run} moves from {source} to {target} by {event.type}")
            require(not self._full or target != "INITIALIZING", f"{run} begins on a node whose disk is full")
            last = self._occurred.get(run.job)
            if source != target:
                require(last is None or event.occurred_at >= last, f"{run} moved before its last move")
                self._occurred[run.job] = event.occurred_at
        if target_of(event) == "RUNNING":
            require(run in self._started, f"{run} is RUNNING and no container of it was started")
        for wrong in self.truth.wrong(run, event):
            require(False, wrong)
        if isinstance(event.body, RunFinalized) and not event.body.volumes_kept:
            self._pushed(run, after)
        kept: Job | None = self._server.row("status", str(run.job))
        if kept is not None and kept.position == event.position:
            require(kept == after, f"the status of {run.job} is not the fold of its events")
        if isinstance(event.body, Move) or type(event.body).__name__ == "RunAdopted":
            self._bill(run, event)

    def _pushed(self, run: RunId, job: Job) -> None:
        """What it was given and what it made, if it is known to have run."""
        if job.exit_code is None:
            return
        for place in (volume.push_to for volume in job.spec.volumes):
            assert place is not None
            for name in (INPUT, output(run)):
                there = (place.container, place.prefix + name) in self._objects
                require(there, f"{run} is over, and its {name} is not in the store")

    def _bill(self, run: RunId, event: Event) -> None:
        facts = self._facts[run]
        calculator.note(facts, event.body, microseconds(event.occurred_at, BEGINNING), BEGINNING)
        if str(getattr(event.body, "target", "")) == "QUEUED" and run.run > 1:
            run = RunId(run.job, run.run - 1)
            facts = self._facts[run]
        bill = self._server.row("billing", f"{run.job}/{run.run}")
        if not facts.flavor or not facts.over or bill is None:
            return
        expected = calculator.result(facts, "2021-05")
        if bill.positions and max(bill.positions) <= event.position:
            found = (bill.minutes, int(bill.amount * MILLION), bill.credited)
            require(found == expected, f"the bill of {run} is {found}, and should be {tuple(expected)}")
        absence = self.truth.absence(run, facts)
        require(absence is None, str(absence))

    def _quota(self) -> None:
        quota = self._server.row("quota", "default")
        if quota is None:
            return
        used = sum(job.spec.resources.units for job in self._jobs.values() if str(job.state) in COUNTED)
        require(quota.cpu_used == used, f"quota says {quota.cpu_used} CPU in use, and {used} are")
        require(used <= quota.cpu, f"{used} CPU in use of {quota.cpu}")

    # -- effects ----------------------------------------------------------------------------------------

    def effect(self, name: str, about: Any) -> None:
        run = run_of(about.labels) if name != "restart" else None
        at = (self._server.clock() - BEGINNING - self._server.skew).total_seconds()
        self.note(f"{at} {name} {run or about}")
        self.truth.effect(name, run, about)
        if run is not None:
            self._checked(self._effect, name, run, about)

    def _effect(self, name: str, run: RunId, about: Any) -> None:
        job = self._jobs.get(run.job)
        require(job is not None, f"{name} of {run}, which the ledger does not know")
        assert job is not None
        if name in ("create", "start"):
            require(job.run >= run.run, f"{name} of {run} before it was ordered")
            require(str(job.state) != "QUEUED" or job.run > run.run, f"{name} of {run}, which has no place")
        if name == "start":
            require(run not in self._started, f"a second container of {run} is started")
            self._started.add(run)
            for mount in about.spec.mounts:
                require((Path(mount.source) / INPUT).exists(), f"{run} is started without its input")
        if name in ("remove", "fence") and isinstance(about, FakeContainer) and about.started_at is not None:
            told = job.run > run.run or str(job.state) in ENDED | {"FINALIZING"}
            if name == "fence" and not told:
                self._fenced.add(run)
            require(
                told or name == "fence",
                f"the container of {run} is removed, and its exit is not recorded ({job.state})",
            )

    # -- the end ----------------------------------------------------------------------------------------

    def unsettled(self, containers: list[FakeContainer], volumes: Path) -> str | None:
        """What still has to come to an end, or None."""
        jobs = self._jobs.values()
        live = [f"{job.id}: {job.state}" for job in jobs if str(job.state) not in ENDED]
        live += [f"{job.id}: pushed again" for job in jobs if job.push_ordered is not None]
        # Of two that were stopped in turn, one may fence what the other began: that never passes for well.
        fenced = [job for job in jobs if RunId(job.id, job.run) in self._fenced and not job.deleted]
        live += [f"{job.id}: {job.state}, and was fenced" for job in fenced if str(job.state) != "ERROR"]
        orphans = [fake.spec.name for fake in containers]
        kept = {str(job.id) for job in jobs if job.volumes_kept and not job.deleted}
        folders = sorted(path.name for path in volumes.glob("*") if path.name not in kept)
        left = live or orphans or folders
        return f"live jobs {live}, containers {orphans}, folders {folders}" if left else None

    @property
    def jobs(self) -> dict[UUID, Job]:
        return self._jobs


def target_of(event: Event) -> str:
    return str(event.body.target) if isinstance(event.body, Move) else ""

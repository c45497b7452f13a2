"""Which queued jobs go where, and why the others wait. Pure: the same inputs give the same plan.

FIFO within a project; between projects the one with the smallest share of the node goes first (its
dominant share: the largest of its shares of CPUs, memory and GPUs). A project's first job holds back the
project's other jobs, but not other projects, until it has waited for `patience_s`: then nothing passes it
any more. A job that the node could never hold waits aside and holds nobody back.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from service.domain.events import Info
from service.domain.job import Job


@dataclass(frozen=True)
class Node:
    """What one engine's machine offers. `gpus` are device ids; `gpu_trouble` says why there are none."""

    name: str
    cpus: int
    memory_bytes: int
    gpus: tuple[str, ...] = ()
    gpu_trouble: str = ""


@dataclass(frozen=True)
class Need:
    """CPUs, memory in bytes, and a number of GPUs."""

    cpus: int
    memory: int
    gpus: int

    @classmethod
    def of(cls, job: Job) -> Need:
        resources = job.spec.resources
        return cls(resources.cpus, resources.memory, resources.gpus)

    def lacking(self, free: Need) -> tuple[str, int, int] | None:
        """The first resource there is too little of, as (name, needed, free); None when it fits."""
        for name in ("gpus", "cpus", "memory"):
            needed, left = getattr(self, name), getattr(free, name)
            if needed > left:
                return name, needed, left
        return None


@dataclass(frozen=True)
class Placement:
    job: Job
    gpus: tuple[str, ...]


@dataclass
class Plan:
    """What to place now, in order, and the reason of every job that has to wait."""

    placements: list[Placement] = field(default_factory=list)
    reasons: dict[UUID, Info] = field(default_factory=dict)


@dataclass
class _Room:
    """What is left of the node while the plan is made."""

    node: Node
    cpus: int
    memory: int
    gpus: list[str]
    used: dict[str, list[int]]

    @property
    def free(self) -> Need:
        return Need(self.cpus, self.memory, len(self.gpus))

    def share(self, project: str) -> float:
        totals = (self.node.cpus, self.node.memory_bytes, len(self.node.gpus))
        used = self.used[project]
        return max((part / total for part, total in zip(used, totals, strict=True) if total), default=0.0)

    def take(self, project: str, need: Need, devices: Iterable[str]) -> None:
        self.cpus -= need.cpus
        self.memory -= need.memory
        taken = set(devices)
        self.gpus = [gpu for gpu in self.gpus if gpu not in taken]
        used = self.used[project]
        for index, amount in enumerate((need.cpus, need.memory, need.gpus)):
            used[index] += amount


def plan(node: Node, placed: Iterable[Job], queued: Iterable[Job], now: datetime, patience_s: float) -> Plan:
    """Decide for every queued job: placed with its GPUs, or waiting with its reason."""
    room = _Room(node, node.cpus, node.memory_bytes, list(node.gpus), defaultdict(lambda: [0, 0, 0]))
    for job in placed:
        room.take(job.project, Need.of(job), job.gpus)
    found = Plan()
    lines = _lines(node, queued, found)
    _fill(room, lines, found, now, timedelta(seconds=patience_s))
    for line in lines.values():
        for job in line:
            found.reasons.setdefault(job.id, BEHIND)
    return found


BEHIND = Info("waiting-in-line", "The job waits behind earlier jobs.")


def _lines(node: Node, queued: Iterable[Job], found: Plan) -> dict[str, deque[Job]]:
    """Each project's queue in order, without the jobs that this node could never hold."""
    whole = Need(node.cpus, node.memory_bytes, len(node.gpus))
    lines: dict[str, deque[Job]] = defaultdict(deque)
    for job in sorted(queued, key=lambda job: job.queued_position):
        too_much = Need.of(job).lacking(whole)
        if too_much is None:
            lines[job.project].append(job)
        else:
            found.reasons[job.id] = _never(node, *too_much)
    return lines


def _fill(room: _Room, lines: dict[str, deque[Job]], found: Plan, now: datetime, patience: timedelta) -> None:
    open_projects = set(lines)
    while open_projects:
        project = min(open_projects, key=lambda p: (room.share(p), lines[p][0].queued_position))
        job = lines[project][0]
        need = Need.of(job)
        lacking = need.lacking(room.free)
        if lacking is not None:
            found.reasons[job.id] = _later(room.node, *lacking)
            if now - job.queued_at >= patience:
                return  # what becomes free is held for this job
            open_projects.remove(project)
            continue
        devices = tuple(room.gpus[: need.gpus])
        room.take(project, need, devices)
        found.placements.append(Placement(job, devices))
        lines[project].popleft()
        if not lines[project]:
            open_projects.remove(project)


_NAMES = {"cpus": "CPU", "memory": "bytes of memory", "gpus": "GPU"}
_CODES = {"cpus": "waiting-for-cpu", "memory": "waiting-for-memory", "gpus": "waiting-for-gpu"}


def _later(node: Node, resource: str, needed: int, _free: int) -> Info:
    """Only what stays the same while it waits, so that the ledger is not filled with countdowns."""
    return Info(
        _CODES[resource],
        f"The job needs {needed} {_NAMES[resource]}; too little of node {node.name} is free.",
        {"resource": resource, "needed": needed, "node": node.name},
    )


def _never(node: Node, resource: str, needed: int, offered: int) -> Info:
    trouble = f" ({node.gpu_trouble})" if resource == "gpus" and node.gpu_trouble else ""
    return Info(
        "no-node-offers",
        f"The job needs {needed} {_NAMES[resource]}, but node {node.name} has {offered} in all{trouble}.",
        {"resource": resource, "needed": needed, "offered": offered, "node": node.name},
    )

"""Which queued jobs go where, and why the others wait. Pure: the same inputs give the same plan.

FIFO within a project; between projects the one with the smallest share of the node goes first (its
dominant share: the largest of its shares of CPUs, memory and GPUs). A project's first job holds back the
project's other jobs, but not other projects, until it has been first in its line for `patience_s`: then
it goes before those that have not, and what becomes free is held for it. Time further back in the
line does not count, or a project could overtake all others by a long queue. A job that the node could
never hold waits aside and holds nobody back.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Set
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
    """What to place now, in order, and the reason of every job that has to wait.

    `first` are the jobs that wait at the head of their project's line. `turns` are those of them that had
    their turn and found too little room, in that order; `held_for` is the last of these when it has been
    first for too long, so that nobody comes after it. `stopped`: nothing is placed, for this reason.
    """

    placements: list[Placement] = field(default_factory=list)
    reasons: dict[UUID, Info] = field(default_factory=dict)
    first: list[UUID] = field(default_factory=list)
    turns: list[UUID] = field(default_factory=list)
    held_for: UUID | None = None
    stopped: Info | None = None


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
        return _dominant(self.node, self.used[project])

    def take(self, project: str, need: Need, devices: Iterable[str]) -> None:
        self.cpus -= need.cpus
        self.memory -= need.memory
        taken = set(devices)
        self.gpus = [gpu for gpu in self.gpus if gpu not in taken]
        used = self.used[project]
        for index, amount in enumerate((need.cpus, need.memory, need.gpus)):
            used[index] += amount


def dominant_share(node: Node, placed: Iterable[Job]) -> float:
    """The largest of the shares that these jobs have together of the node's CPUs, memory and GPUs."""
    needs = [Need.of(job) for job in placed]
    used = [sum(getattr(need, name) for need in needs) for name in ("cpus", "memory", "gpus")]
    return _dominant(node, used)


def _dominant(node: Node, used: Iterable[int]) -> float:
    totals = (node.cpus, node.memory_bytes, len(node.gpus))
    return max((part / total for part, total in zip(used, totals, strict=True) if total), default=0.0)


def plan(
    node: Node,
    placed: Iterable[Job],
    queued: Iterable[Job],
    now: datetime,
    patience_s: float,
    first_since: Mapping[UUID, datetime] | None = None,
    stopped: Info | None = None,
) -> Plan:
    """Decide for every queued job: placed with its GPUs, or waiting with its reason.

    `first_since` says since when a job has been first in its line; one that is not there became it now.
    `stopped` says why no run may begin on the node, if so: then all wait for that.
    """
    room = _Room(node, node.cpus, node.memory_bytes, list(node.gpus), defaultdict(lambda: [0, 0, 0]))
    for job in placed:
        room.take(job.project, Need.of(job), job.gpus)
    found = Plan(stopped=stopped)
    lines = _lines(node, queued, found)
    if stopped is not None:
        for line in lines.values():
            found.first += [job.id for job in line][:1]
            found.reasons |= {job.id: stopped for job in line}
        return found
    tired = now - timedelta(seconds=patience_s)
    since = first_since or {}
    for job in _fill(room, lines, found, {job for job in since if since[job] <= tired}):
        # Said of what is left at the end, so that the next plan, which begins there, says the same.
        lacking = Need.of(job).lacking(room.free)
        if lacking is not None:
            found.reasons[job.id] = _later(node, *lacking)
    for line in lines.values():
        found.first += [job.id for job in line][:1]
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


def _fill(room: _Room, lines: dict[str, deque[Job]], found: Plan, tired: Set[UUID]) -> list[Job]:
    """Place what fits; the jobs that came first and did not. `tired` have been first for too long."""

    def turn(project: str) -> tuple[bool, float, int]:
        first = lines[project][0]
        return first.id not in tired, room.share(project), first.queued_position

    open_projects = set(lines)
    lacking: list[Job] = []
    while open_projects:
        project = min(open_projects, key=turn)
        job = lines[project][0]
        need = Need.of(job)
        if need.lacking(room.free) is not None:
            lacking.append(job)
            found.turns.append(job.id)
            if job.id in tired:
                found.held_for = job.id
                break  # what becomes free is held for this job
            open_projects.remove(project)
            continue
        devices = tuple(room.gpus[: need.gpus])
        room.take(project, need, devices)
        found.placements.append(Placement(job, devices))
        lines[project].popleft()
        if not lines[project]:
            open_projects.remove(project)
    return lacking


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

"""What binds a queued job at one moment: the constraint, who holds what it lacks, which jobs are ahead."""

from __future__ import annotations

from typing import Literal, NamedTuple
from uuid import UUID

from projections.waiting.moments import Moment
from projections.waiting.yard import PastYard
from service.domain.behind import CLOCK_BEHIND
from service.domain.events import Info
from service.domain.job import Job
from service.domain.room import DISK_FULL, MEMORY_FULL
from service.domain.scheduling import Need, Plan, dominant_share

#: `node`: the node's own work, such as starting a container; `node-lost`: nobody looks after it.
Constraint = Literal[
    "quota", "budget", "cpu", "memory", "gpu", "disk", "registry", "data", "clock", "node-lost", "node"
]
#: Why a job goes before another: earlier in the line of its project, first for too long, a smaller share, or
#: given its place at this very moment.
Before = Literal["earlier-in-line", "waited-longer", "smaller-share", "being-placed"]

OF_RESOURCE: dict[str, Constraint] = {"cpus": "cpu", "memory": "memory", "gpus": "gpu"}

#: What the node is short of, or has to wait for, when no run may begin on it.
OF_STOP: dict[str, Constraint] = {DISK_FULL: "disk", MEMORY_FULL: "memory", CLOCK_BEHIND: "clock"}

LOST = Info("node-lost", "Nobody looked after the node: the service was not there, or did not reach it.")
NO_NODE = Info("no-node", "No node has been there yet.")
PLACING = Info("being-placed", "There is room; the job is being given its place.")


class Ahead(NamedTuple):
    job: UUID
    why: Before


class Holder(NamedTuple):
    """A placed job, and how much it holds of what is lacking: CPUs, bytes or GPUs."""

    job: UUID
    amount: int


class Binding(NamedTuple):
    """`share` is the part of the node that the job's project has, by its dominant share, from 0 to 1."""

    constraint: Constraint
    info: Info
    ahead: tuple[Ahead, ...] = ()
    holders: tuple[Holder, ...] = ()
    share: float = 0.0


def binding(yard: PastYard, moment: Moment, job: Job) -> Binding:
    """Of a job that is queued at the moment, as the plan of the moment has it."""
    node = yard.node()
    if moment.absent:
        return Binding("node-lost", LOST)
    if node is None or moment.plan is None:
        return Binding("node-lost", NO_NODE)
    made = moment.plan
    share = dominant_share(node, [each for each in yard.placed() if each.project == job.project])
    reason = made.reasons.get(job.id)
    if reason is None:
        return Binding("node", PLACING, _placed_before(made, job), share=share)
    resource = str(reason.arguments.get("resource", ""))
    if reason.code == "no-node-offers":
        return Binding(OF_RESOURCE[resource], reason, share=share)
    if made.stopped is not None:
        return Binding(OF_STOP[made.stopped.code], reason, share=share)
    ahead = _ahead(yard, made, job)
    if not resource:  # behind another, and so bound by what that one lacks
        resource = _lacking_of(made, job, yard)
    return Binding(OF_RESOURCE[resource], reason, ahead, _holders(yard, made, resource), share)


def _lacking_of(made: Plan, job: Job, yard: PastYard) -> str:
    """What the job lacks that this one stands behind: the first of its line, or the one all is held for."""
    for head in (_first_of_line(made, job, yard), made.held_for):
        reason = made.reasons.get(head) if head is not None else None
        if reason is not None and "resource" in reason.arguments:
            return str(reason.arguments["resource"])
    raise AssertionError(f"job {job.id} stands behind nobody who lacks anything")


def _first_of_line(made: Plan, job: Job, yard: PastYard) -> UUID | None:
    return next((each for each in made.first if yard.jobs[each].project == job.project), None)


def _ahead(yard: PastYard, made: Plan, job: Job) -> tuple[Ahead, ...]:
    """In the order in which they go: being placed, the one that waited longest, the line, other lines."""
    found = {each.job: each for each in _placed_before(made, job)}
    if made.held_for is not None and made.held_for != job.id:
        found.setdefault(made.held_for, Ahead(made.held_for, "waited-longer"))
    for each in yard.line(job.project):
        if each.queued_position < job.queued_position and not _aside(made, each, yard):
            found.setdefault(each.id, Ahead(each.id, "earlier-in-line"))
    head = _first_of_line(made, job, yard)
    turns = made.turns[: made.turns.index(head)] if head in made.turns else made.turns
    for each_id in turns:
        if each_id not in (head, job.id):
            found.setdefault(each_id, Ahead(each_id, "smaller-share"))
    return tuple(found.values())


def _aside(made: Plan, job: Job, yard: PastYard) -> bool:
    """A job that the node could never hold is in nobody's way."""
    node = yard.node()
    whole = Need(node.cpus, node.memory_bytes, len(node.gpus)) if node else None
    return whole is not None and Need.of(job).lacking(whole) is not None


def _placed_before(made: Plan, job: Job) -> tuple[Ahead, ...]:
    """Those that the same plan places before it; all of them, when it has no place itself."""
    ids = [placement.job.id for placement in made.placements]
    before = ids[: ids.index(job.id)] if job.id in ids else ids
    return tuple(Ahead(each, "being-placed") for each in before)


def _holders(yard: PastYard, made: Plan, resource: str) -> tuple[Holder, ...]:
    """Who has of it, or is just being given it: that is what is lacking."""
    holding = [*yard.placed(), *(placement.job for placement in made.placements)]
    amounts = [Holder(job.id, getattr(Need.of(job), resource)) for job in holding]
    return tuple(each for each in amounts if each.amount > 0)

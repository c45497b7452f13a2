"""What a run moves: all it pulls as it begins, all it pushes as it ends, and what is ordered in between."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from uuid import NAMESPACE_OID, uuid5

from service.domain.events import Direction, Info, VolumeProgress
from service.domain.job import Job, SyncOrder
from service.domain.notes import in_short
from service.errors import DataError, DiskFull, NodeFull
from service.supervisor.data import disk
from service.supervisor.data.volume import layout
from service.supervisor.effects import FatalForRun, Yard
from service.supervisor.names import RunId
from service.supervisor.sync.move import Wanted
from service.supervisor.sync.report import Sync
from service.supervisor.volumes import cached, has_pushes, lie_here, root_of, volume_root

PINNED = (
    "not pulled: jobs of the project share it through the node's cache, so it stays as it is while they run; "
    "a job that starts later has what is new"
)


async def pull_all(yard: Yard, job: Job) -> None:
    """Pull every volume of the run. Raises `FatalForRun`, or `Unavailable` from the ledger."""
    run = RunId(job.id, job.run)
    for index in range(len(job.spec.volumes)):
        await _on_disk(layout.prepare(root_of(yard, job, index)))
    wanted = [Wanted(i, v, v.pull_from) for i, v in enumerate(job.spec.volumes) if v.pull_from is not None]
    if wanted:
        await Sync(yard, job, "pull", _sync_id(run, "pull")).run(wanted)


@dataclass(frozen=True)
class Pushed:
    """What became of a push. `problem`: it failed. `remark`: it left out what no store can hold."""

    problem: Info | None = None
    remark: Info | None = None


async def push_all(yard: Yard, job: Job, *, sync_id: str | None = None) -> Pushed:
    """Push what the run may push, before it goes. `sync_id` is that of a push which a user ordered again.

    Raises `FatalForRun` for a fault of ours, unless the run is over; then `OSError` where the disk does not
    say whether anything was kept there.
    """
    run = RunId(job.id, job.run)
    wanted = [Wanted(i, v, v.push_to) for i, v in enumerate(job.spec.volumes) if v.push_to is not None]
    if not wanted:
        return Pushed()
    manual = sync_id is not None
    refused: dict[int, str] = {}
    if manual and not lie_here(yard, job):
        why = f"What was kept is not on node {yard.settings.node}."
        wanted, refused = [], {each.index: why for each in wanted}
    sync = Sync(yard, job, "push", sync_id or _sync_id(run, "push"), manual=manual)
    try:
        await sync.run(wanted, refused, last=True)
    except FatalForRun as fatal:
        if fatal.ours and not manual:
            raise
        return Pushed(problem=fatal.info)
    return Pushed(remark=_left_out(sync.moved))


def _left_out(moved: list[VolumeProgress]) -> Info | None:
    """One sentence for `status.info`; the rest is in `status.dataSync`."""
    count = sum(volume.count_left_out for volume in moved)
    if not count:
        return None
    reasons = [reason for volume in moved for reason in volume.reasons]
    message = f"Not everything was pushed: {in_short(reasons, count)}."
    return Info("not-all-pushed", message, {"notPushed": count})


async def move_ordered(yard: Yard, job: Job, order: SyncOrder) -> None:
    """Do what was ordered while the job runs. Raises as `pull_all`; the failure is then recorded."""
    push = order.direction == "push"
    wanted = [
        Wanted(index, volume, place)
        for index, volume in enumerate(job.spec.volumes)
        if order.volume in (None, index)
        and (place := volume.push_to if push else volume.pull_from) is not None
    ]
    sync = Sync(yard, job, order.direction, order.id, manual=True)
    pinned = {} if push else await _pinned(yard, job, wanted)
    await sync.run([each for each in wanted if each.index not in pinned], pinned)


async def _pinned(yard: Yard, job: Job, wanted: list[Wanted]) -> dict[int, str]:
    """The volumes that cannot change while the run has them, because others have the same files."""
    return {each.index: PINNED for each in wanted if await disk.run(cached, yard, job, each.index)}


async def settle(yard: Yard, job: Job) -> None:
    """What the run wrote outlives a power cut from here on: an exit that is recorded promises its output.

    One volume stands for all: they lie on one file system, which is waited for as a whole.
    """
    wanted = [index for index, volume in enumerate(job.spec.volumes) if volume.push_to is not None]
    if wanted:
        await _on_disk(layout.settle(volume_root(yard, RunId(job.id, job.run), wanted[0])))


def may_be_unpushed(job: Job, *, has_run: bool) -> bool:
    """Whether the run's volumes may hold what its process made and no store has."""
    push = _sync_id(RunId(job.id, job.run), "push")
    pushed = any(sync.id == push and sync.state == "DONE" for sync in job.data_syncs)
    # That it ended may be all that was heard: it was to be stopped before anybody had heard that it began.
    return (has_run or job.exit_code is not None) and has_pushes(job) and not pushed


def _sync_id(run: RunId, direction: Direction) -> str:
    """The same after a restart, so that a synchronisation which goes on is still one."""
    return str(uuid5(NAMESPACE_OID, f"{run} {direction}"))


async def _on_disk(work: Awaitable[None]) -> None:
    try:
        await work
    except DiskFull as error:
        raise NodeFull(error.message) from error
    except DataError as error:
        info = Info("node-storage", f"The node's storage failed: {error.message}")
        raise FatalForRun(info, ours=True) from error

"""Which folders on the node are a run's own, and what they take."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from service.domain.events import Info
from service.domain.job import Job
from service.domain.sizes import binary
from service.domain.spec import Permission
from service.supervisor import volumes
from service.supervisor.effects import FatalForRun, Yard
from service.supervisor.names import RunId
from service.supervisor.storage.threads import added_up
from service.supervisor.storage.tree import Tally
from service.supervisor.storage.usage import Usage


def folders(yard: Yard, job: Job, *, written: bool) -> list[Path]:
    """The folders of the volumes that are this run's and nobody else's; `written`: that the job can write to.

    A folder that jobs share belongs to none of them.
    """
    run = RunId(job.id, job.run)
    found = []
    for index, volume in enumerate(job.spec.volumes):
        root = volumes.root_of(yard, job, index)
        if root != volumes.volume_root(yard, run, index):
            continue
        if not written or volume.permission is not Permission.RO:
            found.append(root)
    return found


async def taken(roots: list[Path]) -> Usage:
    """What folders take together. Raises `OSError`."""
    return await added_up(partial(_add, roots))


def _add(roots: list[Path], tally: Tally) -> None:
    for root in roots:
        tally.tree(root)


async def require_fit(yard: Yard, job: Job) -> None:
    """What was pulled fits as a whole. A pull bounds each volume, and several together can be too much.

    Raises `FatalForRun`.
    """
    roots = [root for root in folders(yard, job, written=False) if root.exists()]
    if len(roots) < 2:
        return
    limit = job.spec.resources.ephemeral_storage
    try:
        usage = await taken(roots)
    except OSError as error:
        info = Info("node-storage", f"The node's storage failed: {error.strerror or type(error).__name__}")
        raise FatalForRun(info, ours=True) from error
    if usage.bytes > limit:
        message = (
            f"The job's volumes take {binary(usage.bytes, up=True)} together, more than the {binary(limit)} "
            "of storage that the job has."
        )
        raise FatalForRun(Info("ephemeral-storage", message, {"used": usage.bytes, "limit": limit}))

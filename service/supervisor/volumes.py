"""A run's volumes on the disk: where they lie, how its container sees them, keeping and removing them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from uuid import UUID

import structlog

from service.domain.events import Info
from service.domain.job import Job
from service.domain.spec import Permission, Volume
from service.errors import DataError
from service.files import settle
from service.supervisor.cache import marks
from service.supervisor.cache.entry import Version, files_dir
from service.supervisor.data.volume.remove import remove_tree
from service.supervisor.effects import FatalForRun, Yard
from service.supervisor.engine.protocol import Mount
from service.supervisor.names import RunId

_log = structlog.get_logger()
_KEPT = "kept"


def run_dir(yard: Yard, run: RunId) -> Path:
    """Everything of one run on the disk."""
    return yard.settings.volumes_dir / str(run.job) / str(run.run)


def volume_root(yard: Yard, run: RunId, index: int) -> Path:
    return run_dir(yard, run) / str(index)


def root_of(yard: Yard, job: Job, index: int) -> Path:
    """The directory of a job's volume: the run's own, or the one that jobs of the project share by name."""
    volume = job.spec.volumes[index]
    if volume.user_volume is not None and volume.shared:
        return yard.settings.user_volumes_dir / job.project / volume.user_volume
    return volume_root(yard, RunId(job.id, job.run), index)


def is_cacheable(volume: Volume) -> bool:
    """Whether it goes by the cache. A git repository has none: nothing in it is fetched piece by piece."""
    return volume.cache and volume.pull_from is not None and volume.git is None


def cached(yard: Yard, job: Job, index: int) -> Version | None:
    """The generation of the cache that the run has mounted in the place of its volume.

    Raises `FatalForRun` when that cannot be read: the run must not find an empty folder where its data was.
    """
    volume = job.spec.volumes[index]
    if not is_cacheable(volume) or volume.permission is not Permission.RO:
        return None
    try:
        return marks.read(volume_root(yard, RunId(job.id, job.run), index))
    except DataError as error:
        info = Info("node-storage", f"The node's storage failed: {error.message}")
        raise FatalForRun(info, ours=True) from error


def _source(yard: Yard, job: Job, index: int) -> Path:
    """What the run's container sees: the same for the same run, also after a restart."""
    version = cached(yard, job, index)
    return root_of(yard, job, index) if version is None else files_dir(yard.settings.cache_dir, version)


def mounts(yard: Yard, job: Job) -> tuple[Mount, ...]:
    """The job's volumes as its container sees them."""
    return tuple(
        Mount(
            source=str(_source(yard, job, index)),
            target=volume.mount_path,
            read_only=volume.permission is Permission.RO,
        )
        for index, volume in enumerate(job.spec.volumes)
    )


def has_pushes(job: Job) -> bool:
    return any(volume.push_to is not None for volume in job.spec.volumes)


def lie_here(yard: Yard, job: Job) -> bool:
    """Whether any of what the run is to push is in our state directory: that of another machine may have it.
    Raises `OSError`."""
    pushed = (index for index, volume in enumerate(job.spec.volumes) if volume.push_to is not None)
    return any(root_of(yard, job, index).is_dir() for index in pushed)


def are_there(yard: Yard, job: Job) -> bool:
    """Whether anything is left of what the job may push: somebody may have removed it by hand. What the disk
    does not tell counts as there, and so does what lies where there is nothing at all: that may be a disk
    which is not mounted, and what is not kept is removed once it is there again."""
    roots = [root_of(yard, job, i) for i, volume in enumerate(job.spec.volumes) if volume.push_to is not None]
    return any(not _is_gone(root, yard) for root in roots)


def _is_gone(root: Path, yard: Yard) -> bool:
    try:
        root.lstat()
    except FileNotFoundError:
        above = (yard.settings.volumes_dir, yard.settings.user_volumes_dir)
        return any(any(folder.glob("*")) for folder in above if folder in root.parents)
    except OSError as error:
        _log.warning("a volume cannot be looked at", volume=root.name, error=error.strerror)
    return False


def keep(yard: Yard, run: RunId) -> None:
    """Mark the run's volumes as kept until they are pushed or the job is deleted, for whoever looks at the
    disk. It is the ledger's word that keeps them: a full disk has no room for a mark.
    """
    try:
        put_mark(run_dir(yard, run) / _KEPT)
    except OSError as error:
        _log.warning("kept volumes not marked", job=str(run.job), run=run.run, error=str(error))


def put_mark(mark: Path) -> None:
    """Make an empty file so that it is there after a power cut, too. Raises `OSError`."""
    mark.touch()
    settle(mark.parent)


def mark(yard: Yard, run: RunId, name: str) -> None:
    """Write down something of a run among what it has on the disk, which goes with it. Raises `OSError`."""
    folder = run_dir(yard, run)
    folder.mkdir(parents=True, exist_ok=True)
    put_mark(folder / name)


def is_kept(yard: Yard, run: RunId) -> bool:
    return (run_dir(yard, run) / _KEPT).exists()


async def remove(yard: Yard, run: RunId) -> None:
    """Remove everything of a run from the disk; gone already is fine. Raises `DataError`."""
    path = run_dir(yard, run)
    if not path.exists():
        return
    held = any(path.glob(f"*{marks.SUFFIX}"))
    async with yard.effect("remove-volumes", run):
        await remove_tree(path)
    if held:
        yard.untidy.set()  # what it had of the cache may be outdated, and nobody has it any more
    try:
        path.parent.rmdir()
    except OSError:
        _log.debug("other runs of the job keep volumes", job=str(run.job))


def remove_empty(yard: Yard) -> None:
    """Remove the folders of jobs in which no run has anything: one that was killed between the two steps of
    `remove` leaves such. Whose first run is about to be prepared makes it again (`layout.prepare`).
    """
    for path in yard.settings.volumes_dir.glob("*"):
        with suppress(ValueError, OSError):  # it is no job's, or not empty
            UUID(path.name)
            path.rmdir()


async def remove_deleted(yard: Yard) -> None:
    """Remove shared volumes that their project deleted and that no live job has. Raises `DataError`.

    The project is asked before the jobs: one that names a volume was submitted before that was deleted.
    """
    for path in yard.settings.user_volumes_dir.glob("*/*"):
        project = await yard.ledger.project(path.parent.name)
        if project is None or path.name in project.volumes:
            continue
        live = await yard.ledger.live_jobs()
        if any(volume.user_volume == path.name for job in live for volume in job.spec.volumes):
            continue
        await yard.still_ours()
        await remove_tree(path)
        _log.info("shared volume removed", project=project.id, volume=path.name)


def runs_on_disk(yard: Yard) -> list[RunId]:
    """The runs that have a directory, whether or not anybody still needs it."""
    found = []
    for path in yard.settings.volumes_dir.glob("*/*"):
        try:
            found.append(RunId(UUID(path.parent.name), int(path.name)))
        except ValueError:
            _log.warning("unexpected in the volumes' directory", name=path.name)
    return found

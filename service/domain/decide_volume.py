"""Deciding about a project's volumes, and what a job gets that names one."""

from __future__ import annotations

from msgspec.structs import replace

from service.domain import commands as cmd
from service.domain import events as ev
from service.domain.directory import Project
from service.domain.spec import JobSpec, Place, Volume
from service.domain.volumes import refuse_unwritable
from service.errors import Conflict, Invalid, NotFound, QuotaExceeded, WrongState

MOST_VOLUMES = 1000


def created(command: cmd.CreateVolume, project: Project) -> ev.VolumeCreated:
    if command.volume_id in project.volumes:
        raise Conflict(f"volume {command.volume_id} exists already")
    if len(project.volumes) >= MOST_VOLUMES:
        raise QuotaExceeded(f"the project has {MOST_VOLUMES} volumes, and may have no more")
    if command.source is not None:
        require_store("dataStore", command.source, project)
    return ev.VolumeCreated(
        volume_id=command.volume_id,
        cache=command.cache,
        source=command.source,
        git=command.git,
        url=command.url,
    )


def deleted(command: cmd.DeleteVolume, project: Project) -> ev.VolumeDeleted:
    if command.volume_id not in project.volumes:
        raise NotFound(f"there is no volume {command.volume_id}")
    return ev.VolumeDeleted(volume_id=command.volume_id)


def resolved(spec: JobSpec, project: Project) -> JobSpec:
    """The specification with what the project's volumes stand for. Raises `Invalid`.

    It is written down with the job: what is said of a volume later changes no job that is there already.
    """
    volumes = tuple(_resolved(f"volumes[{at}]", volume, project) for at, volume in enumerate(spec.volumes))
    for index, volume in enumerate(volumes):
        for name, place in (("dataStore", volume.source), ("targetDataStore", volume.target)):
            if place is not None:
                require_store(f"volumes[{index}].{name}", place, project)
    return replace(spec, volumes=volumes)


def _resolved(field: str, volume: Volume, project: Project) -> Volume:
    if volume.user_volume is None:
        return volume
    known = project.volumes.get(volume.user_volume)
    if known is None:
        raise Invalid(f"{field}.userVolumeId", volume.user_volume, "the project has no such volume")
    cache = volume.cache or known.cache
    made = replace(volume, source=known.source, git=known.git, url=known.url, cache=cache)
    if made.shared and made.target is not None:
        allowed = "a standalone volume that jobs share stays on the node, and is not pushed"
        raise Invalid(f"{field}.targetDataStore", made.target.alias, allowed)
    refuse_unwritable(field, made)
    return made


def require_store(field: str, place: Place, project: Project) -> None:
    if place.alias not in project.data_stores:
        known = ", ".join(sorted(project.data_stores)) or "none yet"
        raise Invalid(f"{field}.alias", place.alias, f"the project's data stores are {known}")


def require_volumes(spec: JobSpec, project: Project) -> None:
    """A job starts again only with all that it had: a shared volume that was deleted is empty."""
    for volume in spec.volumes:
        if volume.user_volume is not None and volume.user_volume not in project.volumes:
            said = (
                f"volume {volume.user_volume} at {volume.mount_path} was deleted: submit a new job without it"
            )
            raise WrongState(said)

"""Deciding about a project's volumes, and what a job gets that names one."""

from __future__ import annotations

from msgspec import UNSET
from msgspec.structs import replace

from service.domain import commands as cmd
from service.domain import events as ev
from service.domain.directory import Project
from service.domain.gitstores import read_repository
from service.domain.spec import JobSpec, Permission, Place, Volume
from service.domain.volumes import check_container, refuse_unwritable
from service.errors import Conflict, Invalid, NotFound, QuotaExceeded, WrongState

MOST_VOLUMES = 1000
_NO_CACHE = "a git repository has no cache"


def created(command: cmd.CreateVolume, project: Project) -> ev.VolumeCreated:
    if command.volume_id in project.volumes:
        raise Conflict(f"volume {command.volume_id} exists already")
    if len(project.volumes) >= MOST_VOLUMES:
        raise QuotaExceeded(f"the project has {MOST_VOLUMES} volumes, and may have no more")
    source = None if command.source is None else _placed("dataStore", command.source, project)
    of_git = source is not None and source.store == "git"
    if of_git and command.cache_asked:
        raise Invalid("cache", True, _NO_CACHE)
    return ev.VolumeCreated(
        volume_id=command.volume_id,
        cache=command.cache and not of_git,
        source=source,
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
    return replace(spec, volumes=volumes)


def _resolved(field: str, volume: Volume, project: Project) -> Volume:
    made = _filled(field, volume, project)
    if made.source is not None:
        made = replace(made, source=_placed(f"{field}.dataStore", made.source, project))
    if made.target is not None:
        made = replace(made, target=_pushed_to(f"{field}.targetDataStore", made.target, project))
    if made.source is None or made.source.store != "git":
        return made
    if volume.cache:
        raise Invalid(f"{field}.cache", True, _NO_CACHE)
    if made.permission is Permission.RWD and made.target is None:
        said = "of a git store RO, or RW for a copy of the job's own: nothing is ever pushed to it"
        raise Invalid(f"{field}.permission", "RWD", said)
    return replace(made, cache=False)


def _filled(field: str, volume: Volume, project: Project) -> Volume:
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


def _placed(field: str, place: Place, project: Project) -> Place:
    """The place, once more, now that its data store is known. Raises `Invalid`."""
    store = project.data_stores.get(place.alias)
    if store is None:
        known = ", ".join(sorted(project.data_stores)) or "none yet"
        raise Invalid(f"{field}.alias", place.alias, f"the project's data stores are {known}")
    if store.kind == "s3":
        check_container(f"{field}.container", place.container)
        return replace(place, store=UNSET)
    read_repository(f"{field}.container", place.container)
    if place.archive:
        said = f"{place.alias} is a data store of type git: a repository is taken as files"
        raise Invalid(f"{field}.archive", place.archive, said)
    return replace(place, store="git")


def _pushed_to(field: str, place: Place, project: Project) -> Place:
    found = _placed(field, place, project)
    if found.store == "git":
        said = "it is a data store of type git, and nothing is ever pushed to one; name one of type s3"
        raise Invalid(f"{field}.alias", place.alias, said)
    return found


def require_volumes(spec: JobSpec, project: Project) -> None:
    """A job starts again only with all that it had: a shared volume that was deleted is empty."""
    for volume in spec.volumes:
        if volume.user_volume is not None and volume.user_volume not in project.volumes:
            said = (
                f"volume {volume.user_volume} at {volume.mount_path} was deleted: submit a new job without it"
            )
            raise WrongState(said)

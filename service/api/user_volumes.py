"""/v1/volume: volumes that a project has, for its jobs to name by their ids."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from service.api import views, wire
from service.api.call import Call
from service.api.pages import PageAsked, paged
from service.domain import commands as cmd
from service.domain.directory import UserVolume
from service.domain.events import VolumeCreated
from service.domain.spec import Place, Web
from service.domain.volumes import read_user_volume
from service.errors import NotFound, WrongState

MOST_SECONDS = 253_402_300_799


class VolumesAsked(PageAsked, frozen=True):
    """`updatedAfter` and `updatedBefore` are seconds since 1970."""

    order: Literal["asc", "desc"] = "desc"
    sort: Literal["createdAt", "updatedAt", "id"] = "createdAt"
    updated_after: Annotated[int, Meta(ge=0, le=MOST_SECONDS)] | None = None
    updated_before: Annotated[int, Meta(ge=0, le=MOST_SECONDS)] | None = None


async def create(call: Call) -> wire.UserVolume:
    asked: wire.UserVolumeAsked = call.body
    source, cache = read_user_volume(asked, asked.cache)
    identity = await call.command_id()
    command = cmd.CreateVolume(
        project=call.project,
        volume_id=str(identity.made("volume")),
        cache=cache,
        cache_asked=asked.cache is True,
        source=source if isinstance(source, Place) else None,
        git=source.url if isinstance(source, Web) and source.kind == "git" else None,
        url=source.url if isinstance(source, Web) and source.kind == "archive" else None,
    )
    event = (await call.submit(command, identity)).events[0]
    body: VolumeCreated = event.body
    made = UserVolume(
        id=body.volume_id,
        created_at=event.recorded_at,
        updated_at=event.recorded_at,
        cache=body.cache,
        source=body.source,
        git=body.git,
        url=body.url,
    )
    return views.user_volume(made)


async def find(call: Call) -> wire.UserVolumeList:
    asked: VolumesAsked = call.query
    found = [volume for volume in (await _volumes(call)).values() if _is_wanted(volume, asked)]
    found.sort(key=lambda volume: _key(volume, asked.sort), reverse=asked.order == "desc")
    page, metadata = paged(call, found, asked)
    return wire.UserVolumeList(items=[views.user_volume(volume) for volume in page], metadata=metadata)


def _is_wanted(volume: UserVolume, asked: VolumesAsked) -> bool:
    at = volume.updated_at.timestamp()
    after, before = asked.updated_after, asked.updated_before
    return (after is None or at > after) and (before is None or at < before)


def _key(volume: UserVolume, sort: str) -> tuple[float, str]:
    if sort == "id":
        return 0, volume.id
    at = volume.created_at if sort == "createdAt" else volume.updated_at
    return at.timestamp(), volume.id


async def get(call: Call) -> wire.UserVolume:
    return views.user_volume(await _known(call))


async def remove(call: Call) -> None:
    """Refused while a job that has not ended uses it.

    A job that is submitted at this very moment may still come before: it keeps what it was promised, as the
    supervisor removes no volume that a live job has. The message names no job: it may be out of scope.
    """
    known = await _known(call)
    for job in await call.ledger.live_jobs():
        if any(volume.user_volume == known.id for volume in job.spec.volumes):
            raise WrongState(f"volume {known.id} is used by a job that has not ended")
    await call.submit(cmd.DeleteVolume(project=call.project, volume_id=known.id))


async def _volumes(call: Call) -> dict[str, UserVolume]:
    project = await call.ledger.project(call.project)
    return project.volumes if project else {}


async def _known(call: Call) -> UserVolume:
    """The volume in the path. Raises `NotFound`."""
    volume_id = str(call.path_id("volume"))
    found = (await _volumes(call)).get(volume_id)
    if found is None:
        raise NotFound(f"there is no volume {volume_id}")
    return found

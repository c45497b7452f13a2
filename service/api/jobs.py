"""/v1/job: submit, list, get, kill, start, edit, delete, move its data."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import replace

from service.api import cursors, errors, reads, scope, views, wire
from service.api.call import Call
from service.api.command_line import command_line
from service.api.pages import PageAsked, metadata
from service.api.query import Query
from service.api.scope import Level
from service.domain import commands as cmd
from service.domain.asked import JobSpecAsked
from service.domain.evolve import evolve
from service.domain.job import Job
from service.domain.reading import read_spec
from service.domain.registries import check_shared
from service.domain.selectors import Selector, parse_selector
from service.domain.spec import JobSpec, Sealed
from service.domain.states import State
from service.errors import Invalid, NotFound

MOST_IMAGE_CHARS = 1024
#: The end of the year 9999, the last that a time can have.
MOST_SECONDS = 253_402_300_799


class JobsAsked(PageAsked, frozen=True):
    """`labelSelector` is Kubernetes': a=b, a!=b, a in (b,c), a notin (b,c), a, !a, several with commas.

    `updatedAfter` and `updatedBefore` are seconds since 1970. With `cursor` (empty for the first page)
    pages have no numbers and are not counted: however deep, each costs the same.
    """

    order: Literal["asc", "desc"] = "desc"
    sort: reads.Sort = "createdAt"
    cursor: Annotated[str, Meta(max_length=2048)] | None = None
    updated_after: Annotated[int, Meta(ge=0, le=MOST_SECONDS)] | None = None
    updated_before: Annotated[int, Meta(ge=0, le=MOST_SECONDS)] | None = None
    status_state: tuple[State, ...] = ()
    user_name: Annotated[str, Meta(max_length=255)] | None = None
    name: Annotated[str, Meta(max_length=255)] | None = None
    label_selector: Annotated[str, Meta(max_length=1024)] | None = None


class StartAsked(Query, frozen=True):
    """`discardVolumes` gives up volumes that were kept because their push failed."""

    discard_volumes: bool = False


class DeleteAsked(Query, frozen=True):
    """`force` stops a live job first."""

    force: bool = False


async def submit(call: Call) -> wire.Job:
    identity = await call.command_id()
    job_id = identity.made("job")
    key = await call.ledger.keys.of(call.project)
    spec = _spec(call, job_id, key.seal)
    command = cmd.SubmitJob(
        project=call.project,
        job=job_id,
        spec=spec,
        user=call.token.name,
        token_label=call.token.label_selector,
    )
    receipt = await call.submit(command, identity)
    # The first answer and every repeat of it are made of the same event: the job as it was then.
    job = evolve(None, receipt.events[0])
    return await _view(call, job, job.created_at)


def _spec(call: Call, job_id: UUID, seal: Any) -> JobSpec:
    asked: JobSpecAsked = call.body
    if len(asked.image) > MOST_IMAGE_CHARS:
        # Reading a megabyte by the grammar would hold up everybody else.
        raise Invalid("image", asked.image, f"at most {MOST_IMAGE_CHARS} characters")
    if call.token.label_selector is not None:
        asked = replace(asked, labels=scope.labelled(call.token, asked.labels))
    settings = call.service.parts.settings
    if asked.ssh_public_keys and not settings.ssh_address:
        said = errors.Said(f"{len(asked.ssh_public_keys)} keys")
        raise Invalid("sshPublicKeys", said, "SSH is switched off on this service; leave them out")
    if settings.shared is not None:
        check_shared(asked.image, call.project, settings.shared.host)
    spec = read_spec(asked, job_id=str(job_id), catalogue=settings.catalogue, seal=seal)
    scope.require_within(call.token, spec.labels)
    return spec


async def command(call: Call) -> wire.CliCommand:
    """The same checks as a submit, without anything being recorded."""
    _spec(call, UUID(int=0), lambda _: Sealed("", "", ""))
    return wire.CliCommand(command=command_line(call.body))


async def find(call: Call) -> wire.JobList:
    asked: JobsAsked = call.query
    up, pool, wanted = asked.order == "asc", call.ledger.pool, _wanted(call, asked)
    if asked.cursor is not None:
        after = cursors.read("cursor", asked.cursor, (asked.sort, asked.order)) if asked.cursor else None
        found = await reads.page_after(pool, wanted, sort=asked.sort, up=up, size=asked.size, after=after)
    else:
        offset = (asked.page - 1) * asked.size
        found = await reads.page(pool, wanted, sort=asked.sort, up=up, size=asked.size, offset=offset)
    items = [await _view(call, job, found.now) for job in found.jobs]
    return wire.JobList(items=items, metadata=_metadata(call, asked, found))


def _wanted(call: Call, asked: JobsAsked) -> reads.Wanted:
    """What is asked for, of what the token may see."""
    selector = scope.selector_of(call.token) or Selector()
    if asked.label_selector:
        selector &= parse_selector("labelSelector", asked.label_selector)
    return reads.Wanted(
        call.project,
        selector,
        asked.status_state,
        asked.name,
        asked.user_name,
        _time(asked.updated_after),
        _time(asked.updated_before),
    )


def _time(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _metadata(call: Call, asked: JobsAsked, found: reads.Page) -> wire.Metadata:
    """With a cursor, `links.next` leads on until a page is not full."""
    if found.total is not None:
        return metadata(call, asked, found.total)
    following: str | UnsetType = UNSET
    if found.last is not None and len(found.jobs) == asked.size:
        cursor = cursors.write((asked.sort, asked.order), found.last)
        following = str(call.request.rel_url.update_query(cursor=cursor))
    return wire.Metadata(links=wire.Links(next=following))


async def get(call: Call) -> wire.Job:
    job, now = await seen(call)
    return await _view(call, job, now)


async def kill(call: Call) -> None:
    await call.submit(cmd.KillJob(**_job(call)))


async def start(call: Call) -> None:
    await call.submit(cmd.StartJob(**_job(call), discard_volumes=call.query.discard_volumes))


async def delete(call: Call) -> None:
    await call.submit(cmd.DeleteJob(**_job(call), force=call.query.force))


async def edit(call: Call) -> None:
    asked: wire.JobEdit = call.body
    if asked.timeout is None and asked.timeout_auto_restart is None:
        raise Invalid("timeout", None, "name timeout, timeoutAutoRestart or both")
    command = cmd.EditJob(
        **_job(call), timeout=asked.timeout, timeout_auto_restart=asked.timeout_auto_restart
    )
    await call.submit(command)


async def label(call: Call) -> None:
    asked: wire.LabelEdit = call.body
    await call.submit(cmd.SetLabel(**_job(call), name=asked.name, value=asked.value))


async def sync(call: Call) -> wire.DataSync:
    asked: wire.DataSyncAsked = call.body
    job, _ = await seen(call)
    identity = await call.command_id()
    command = cmd.SyncData(
        **_job(call),
        sync_id=str(identity.made("sync")),
        direction=asked.direction,
        volume=None if asked.volume is None else _volume(job, asked.volume),
    )
    receipt = await call.submit(command, identity)
    return views.sync_ordered(job, receipt.events[-1])


def _volume(job: Job, named: str) -> int:
    """The index of a volume, by its id or its mount path."""
    for index, volume in enumerate(job.spec.volumes):
        if named in (views.volume_id(job.id, index), volume.mount_path):
            return index
    paths = ", ".join(volume.mount_path for volume in job.spec.volumes)
    raise Invalid("volume", named, f"the id or the mount path of a volume; the job has {paths or 'none'}")


def _job(call: Call) -> dict[str, Any]:
    """What every command about the job in the path carries. Deciding checks project and scope."""
    return {
        "project": call.project,
        "job": call.path_id("job"),
        "scope": scope.selector_of(call.token),
    }


async def seen(call: Call) -> tuple[Job, datetime]:
    """The job in the path, if the caller may see it, and the database's time. Raises `NotFound`."""
    job_id = call.path_id("job")
    found = await reads.job(call.ledger.pool, job_id)
    if found is None or found[0].deleted or not scope.sees(call.token, found[0]):
        raise NotFound(f"there is no job {job_id}")
    return found


async def _view(call: Call, job: Job, now: datetime) -> wire.Job:
    key = None
    if job.spec.env and scope.level_of(call.token) >= Level.OPERATE:
        key = await call.ledger.keys.of(job.project)
    settings = call.service.parts.settings
    return views.job(
        job,
        now=now,
        key=key,
        public_url=settings.public_url,
        job_domain=settings.job_domain,
        ssh_address=settings.ssh_address,
    )

"""/v1/job: submit, list, get, kill, start, edit, delete, move its data."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from aiohttp import web
from msgspec import UNSET, Meta, Raw, UnsetType
from msgspec.structs import replace

from service.api import cursors, errors, past, past_lists, reads, scope, submitting, views, wire
from service.api.call import Call, encoded, json_response
from service.api.command_line import command_line
from service.api.pages import PageAsked, metadata
from service.api.query import Moment, Query
from service.api.scope import Level
from service.domain import commands as cmd
from service.domain.asked import JobSpecAsked
from service.domain.evolve import evolve
from service.domain.job import Job
from service.domain.reading import Seal, read_spec
from service.domain.registries import check_shared
from service.domain.selectors import Selector, parse_selector
from service.domain.spec import JobSpec, Sealed
from service.domain.states import State
from service.errors import Invalid, NotFound, Rejected
from service.vault import JobKey

MOST_IMAGE_CHARS = 1024
#: The end of the year 9999, the last that a time can have.
MOST_SECONDS = 253_402_300_799


class JobsAsked(PageAsked, frozen=True):
    """`labelSelector` is Kubernetes': a=b, a!=b, a in (b,c), a notin (b,c), a, !a, several with commas.

    `updatedAfter` and `updatedBefore` are seconds since 1970. With `cursor` (empty for the first page)
    pages have no numbers and are not counted: however deep, each costs the same. `asOf`, a position of the
    ledger or a time (RFC 3339), lists the jobs that there were then, as they were.
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
    as_of: Moment | None = None


class StartAsked(Query, frozen=True):
    """`discardVolumes` gives up volumes that were kept because their push failed."""

    discard_volumes: bool = False


class DeleteAsked(Query, frozen=True):
    """`force` stops a live job first, and gives up kept volumes that are being pushed."""

    force: bool = False


async def submit(call: Call) -> wire.Job:
    identity = await call.command_id()
    job_id = identity.made("job")
    key = await _key(call, job_id)
    try:
        spec = _spec(call, job_id, _no_secrets if key is None else key.seal)
    except Rejected:
        # Less may be asked for than then: a flavor is gone, SSH is switched off. What was taken stays taken.
        if (known := await submitting.recalled(call, job_id, key)) is None:
            raise
        receipt = known
    else:
        command = cmd.SubmitJob(
            project=call.project,
            job=job_id,
            spec=spec,
            user=call.token.name,
            token_label=call.token.label_selector,
        )
        receipt = await submitting.submit(call, command, key)
    # The first answer and every repeat of it are made of the same event: the job as it was then.
    job = evolve(None, receipt.events[0])
    return _view(call, job, job.created_at, await _secrets(call, [job]))


async def _key(call: Call, job_id: UUID) -> JobKey | None:
    """What seals the job's secrets: a key of its own, made only for one that has any."""
    asked: JobSpecAsked = call.body
    return await call.ledger.keys.of_job(call.project, job_id) if asked.env_vars else None


def _no_secrets(_text: str) -> Sealed:
    return Sealed("", "", "")


def _spec(call: Call, job_id: UUID, seal: Seal) -> JobSpec:
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


def unsealed_spec(call: Call) -> JobSpec:
    """The specification of a job that is not made, checked as for a submit. It holds no secrets."""
    return _spec(call, UUID(int=0), _no_secrets)


async def command(call: Call) -> wire.CliCommand:
    """The same checks as a submit, without anything being recorded."""
    unsealed_spec(call)
    return wire.CliCommand(command=command_line(call.body))


async def find(call: Call) -> wire.JobListAsSent:
    asked: JobsAsked = call.query
    found = await _page(call, asked)
    secrets = await _secrets(call, found.jobs)
    items = [Raw(_shown(call, job, found.now, secrets)) for job in found.jobs]
    return wire.JobListAsSent(items=items, metadata=_metadata(call, asked, found))


async def _page(call: Call, asked: JobsAsked) -> reads.Page:
    """The page that is asked for, of the jobs of now or of a moment of the past."""
    ledger, wanted, moment = call.ledger, _wanted(call, asked), await past.asked(call)
    order: Any = {"sort": asked.sort, "up": asked.order == "asc", "size": asked.size}
    if asked.cursor is not None:
        after = cursors.read("cursor", asked.cursor, (asked.sort, asked.order)) if asked.cursor else None
        if moment is not None:
            return await past_lists.page(ledger, wanted, moment, **order, after=after)
        return await reads.page_after(ledger.pool, ledger.job_rows, wanted, **order, after=after)
    offset = (asked.page - 1) * asked.size
    if moment is not None:
        return await past_lists.page(ledger, wanted, moment, **order, offset=offset, counted=True)
    return await reads.page(ledger.pool, ledger.job_rows, wanted, **order, offset=offset)


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
    """With a cursor, `links.next` leads on as long as there is more; a page of large jobs is not full."""
    if found.total is not None:
        return metadata(call, asked, found.total)
    following: str | UnsetType = UNSET
    if found.last is not None and (len(found.jobs) == asked.size or found.is_cut):
        cursor = cursors.write((asked.sort, asked.order), found.last)
        following = str(call.request.rel_url.update_query(cursor=cursor))
    return wire.Metadata(links=wire.Links(next=following))


async def get(call: Call) -> wire.Job | web.Response:
    moment = await past.asked(call)
    if moment is not None:
        then = await past.job(call, call.path_id("job"), moment)
        return _view(call, then, moment.at, await _secrets(call, [then]))
    job, now = await seen(call)
    return json_response(_shown(call, job, now, await _secrets(call, [job])))


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
    # Deleted meanwhile or not: a repeat has its first answer, and any other is refused as it is decided.
    job, _ = await seen(call, deleted=True)
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


async def seen(call: Call, *, deleted: bool = False) -> tuple[Job, datetime]:
    """The job in the path, if the caller may see it, and the database's time. Raises `NotFound`.

    `deleted`: also one that was deleted.
    """
    job_id = call.path_id("job")
    found = await call.ledger.job_now(job_id)
    gone = found is None or (found[0].deleted and not deleted)
    if found is None or gone or not scope.sees(call.token, found[0]):
        raise NotFound(f"there is no job {job_id}")
    return found


def _shown(call: Call, job: Job, now: datetime, secrets: views.Secrets | None) -> bytes:
    """The answer about a job, encoded: made once, but for one whose secrets not everybody is shown."""
    if job.spec.env:
        return encoded(_view(call, job, now, secrets))
    shown, duration_s = call.service.shown, views.duration_s(job, now)
    body = shown.of(job, duration_s)
    if body is None:
        body = encoded(_view(call, job, now, None))
        shown.keep(job, duration_s, body)
    return body


async def _secrets(call: Call, of: Sequence[Job]) -> views.Secrets | None:
    """What the jobs' specifications seal, for those who may see it."""
    if scope.level_of(call.token) < Level.OPERATE or not any(job.spec.env for job in of):
        return None
    return await call.ledger.keys.opened(var.value for job in of for var in job.spec.env)


def _view(call: Call, job: Job, now: datetime, secrets: views.Secrets | None) -> wire.Job:
    settings = call.service.parts.settings
    return views.job(
        job,
        now=now,
        secrets=secrets,
        public_url=settings.public_url,
        job_domain=settings.job_domain,
        ssh_address=settings.ssh_address,
    )

"""/v1/job: submit, list, get, kill, start, delete, push again."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import UNSET, Meta
from msgspec.structs import replace

from service.api import reads, scope, views, wire
from service.api.call import Call
from service.api.command_line import command_line
from service.api.query import Query
from service.api.scope import Level
from service.domain import commands as cmd
from service.domain.asked import JobSpecAsked
from service.domain.evolve import evolve
from service.domain.job import Job
from service.domain.reading import read_spec
from service.domain.registries import check_shared
from service.domain.spec import JobSpec, Sealed
from service.domain.states import State
from service.errors import Invalid, NotFound, WrongState

MOST_ROWS = 500
MOST_IMAGE_CHARS = 1024
MOST_PAGES = 1_000_000_000


class JobsAsked(Query, frozen=True):
    """`labelSelector` is name=value, or several with commas, all of which must hold."""

    page: Annotated[int, Meta(ge=1, le=MOST_PAGES)] = 1
    size: Annotated[int, Meta(ge=1, le=MOST_ROWS)] = 100
    order: Literal["asc", "desc"] = "desc"
    sort: Literal["createdAt", "updatedAt", "status.state", "status.queuedAt", "spec.name", "user"] = (
        "createdAt"
    )
    status_state: tuple[State, ...] = ()
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
    if settings.shared is not None:
        check_shared(asked.image, call.project, settings.shared.host)
    return read_spec(asked, job_id=str(job_id), catalogue=settings.catalogue, seal=seal)


async def command(call: Call) -> wire.CliCommand:
    """The same checks as a submit, without anything being recorded."""
    _spec(call, UUID(int=0), lambda _: Sealed("", "", ""))
    return wire.CliCommand(command=command_line(call.body))


async def find(call: Call) -> wire.JobList:
    asked: JobsAsked = call.query
    selected = scope.parse_selectors("labelSelector", asked.label_selector) if asked.label_selector else {}
    own = scope.selector_of(call.token)
    if own is not None and selected.setdefault(own.name, own.value) != own.value:
        return wire.JobList(items=[], metadata=_metadata(call, asked, 0))
    wanted = reads.Wanted(call.project, asked.status_state, selected, asked.name)
    offset = (asked.page - 1) * asked.size
    found = await reads.page(
        call.ledger.pool, wanted, sort=asked.sort, up=asked.order == "asc", size=asked.size, offset=offset
    )
    items = [await _view(call, job, found.now) for job in found.jobs]
    return wire.JobList(items=items, metadata=_metadata(call, asked, found.total))


def _metadata(call: Call, asked: JobsAsked, total: int) -> wire.Metadata:
    pages = max(1, -(-total // asked.size))
    more = asked.page < pages
    following = str(call.request.rel_url.update_query(page=asked.page + 1)) if more else UNSET
    return wire.Metadata(
        current_page=asked.page, page_count=pages, total=total, links=wire.Links(next=following)
    )


async def get(call: Call) -> wire.Job:
    job, now = await seen(call)
    return await _view(call, job, now)


async def kill(call: Call) -> None:
    await call.submit(cmd.KillJob(project=call.project, job=await _known(call)))


async def start(call: Call) -> None:
    await call.submit(
        cmd.StartJob(project=call.project, job=await _known(call), discard_volumes=call.query.discard_volumes)
    )


async def delete(call: Call) -> None:
    job_id = await _known(call)
    await call.submit(cmd.DeleteJob(project=call.project, job=job_id, force=call.query.force))


async def sync(call: Call) -> wire.DataSync:
    asked: wire.DataSyncAsked = call.body
    if asked.direction == "pull":
        raise Invalid("direction", "pull", "pulling again is not offered yet; push is, after a failed push")
    if asked.volume is not None:
        raise Invalid("volume", asked.volume, "one volume alone is not offered yet; leave it out")
    job, _ = await seen(call)
    identity = await call.command_id()
    if not job.ended and identity.digest is None:
        raise WrongState(
            f"job {job.id} is {job.state}: pushing while a job runs is not offered yet; "
            "it is pushed when the job ends"
        )
    command = cmd.PushAgain(project=call.project, job=job.id, sync_id=str(identity.made("sync")))
    receipt = await call.submit(command, identity)
    return views.push_ordered(receipt.events[0])


async def seen(call: Call) -> tuple[Job, datetime]:
    """The job in the path, if the caller may see it, and the database's time. Raises `NotFound`."""
    job_id = call.path_id("job")
    found = await reads.job(call.ledger.pool, job_id)
    if found is None or found[0].deleted or not scope.sees(call.token, found[0]):
        raise NotFound(f"there is no job {job_id}")
    return found


async def _known(call: Call) -> UUID:
    """The id in the path. Deciding checks the project; only a token with a selector needs a look before."""
    if call.token.label_selector is None:
        return call.path_id("job")
    return (await seen(call))[0].id


async def _view(call: Call, job: Job, now: datetime) -> wire.Job:
    key = None
    if job.spec.env and scope.level_of(call.token) >= Level.OPERATE:
        key = await call.ledger.keys.of(job.project)
    return views.job(job, now=now, key=key, public_url=call.service.parts.settings.public_url)

"""/v1/job/{id}/diff: what changed of a job between two moments, field by field, and by which events."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any
from uuid import UUID

import msgspec
from msgspec import field
from msgspec.structs import replace

from service.api import past, views, wire
from service.api.call import Call
from service.api.errors import Said
from service.api.query import Moment, Query
from service.domain.evolve import VISITS_KEPT
from service.domain.job import Job
from service.errors import Invalid
from service.ledger import asof

#: As many events as one answer names.
MOST_EVENTS = 1000


class DiffAsked(Query, frozen=True):
    """`from` and `to` are positions of the ledger or times (RFC 3339); `to` is now when it is left out."""

    since: Moment = field(name="from")
    until: Moment | None = field(default=None, name="to")


async def diff(call: Call) -> wire.JobDiff:
    """A job that did not exist at `from` is compared with nothing. Raises `NotFound` as `GET` would."""
    since, until = await _moments(call)
    job_id = call.path_id("job")
    after = await past.with_deleted(call, job_id, until)
    before = _as_far_back(await _before(call, job_id, since, after), after)
    events, more = await asof.envelopes(
        call.ledger.pool, job_id, since.position, until.position, most=MOST_EVENTS
    )
    return wire.JobDiff(
        id=str(job_id),
        since=wire.Moment(position=since.position, at=since.at),
        until=wire.Moment(position=until.position, at=until.at),
        changes=list(changes(_plain(call, before, since), _plain(call, after, until))),
        events=[wire.Happening(**event._asdict()) for event in events],
        events_left_out=more,
    )


async def _moments(call: Call) -> tuple[asof.Moment, asof.Moment]:
    """The two that are asked for. Raises `Invalid`."""
    asked: DiffAsked = call.query
    pool = call.ledger.pool
    since = await asof.moment_of(pool, asked.since, "from")
    if asked.until is None:
        return since, await asof.latest(pool)
    until = await asof.moment_of(pool, asked.until, "to")
    if since > until:
        said = Said(f"position {since.position}, {since.at.isoformat()} was asked for")
        raise Invalid("from", said, f"it must not be later than `to`, position {until.position}")
    return since, until


async def _before(call: Call, job_id: UUID, since: asof.Moment, after: Job) -> Job | None:
    """The job at `from`; None when it had not been submitted."""
    if after.created_position > since.position:
        return None
    return await past.with_deleted(call, job_id, since)


def _as_far_back(before: Job | None, after: Job) -> Job | None:
    """Without the visits that are older than all that the job shows at `to`: that they are shown no more is
    no change of the job, and the others would each stand at another index."""
    if before is None or not after.history:
        return before
    oldest = after.history[-VISITS_KEPT:][0].position
    return replace(before, history=tuple(each for each in before.history if each.position >= oldest))


def _plain(call: Call, job: Job | None, moment: asof.Moment) -> dict[str, Any]:
    """A job as it is read, in the types of JSON; without what is sealed, and with whether it was deleted."""
    if job is None:
        return {}
    settings = call.service.parts.settings
    shown = views.job(
        job,
        now=moment.at,
        secrets=None,
        public_url=settings.public_url,
        job_domain=settings.job_domain,
        ssh_address=settings.ssh_address,
    )
    found: dict[str, Any] = msgspec.to_builtins(shown)
    return found | {"deleted": job.deleted}


def changes(before: Any, after: Any, path: str = "") -> Iterator[wire.Change]:
    """The fields that are not the same, in the order in which they stand. Objects and lists are gone into,
    also where one side has none."""
    if before == after:
        return
    kinds = {type(side) for side in (before, after) if side is not None}
    if kinds == {dict}:
        for name in dict.fromkeys([*(before or ()), *(after or ())]):
            inner = f"{path}.{name}" if path else name
            yield from changes((before or {}).get(name), (after or {}).get(name), inner)
    elif kinds == {list}:
        for index, (was, is_) in enumerate(zip_longest(before or (), after or ())):
            yield from changes(was, is_, f"{path}[{index}]")
    else:
        yield wire.Change(field=path, before=before, after=after)

"""Reads as of a moment of the past: `asOf` on jobs, lists, the quota and the bill.

What is asked is applied to what was there then: filters, orders and cursors, and the label selector of the
token. The token itself must be good now.
"""

from __future__ import annotations

from uuid import UUID

from service.api import reads, scope
from service.api.call import Call
from service.domain.job import Job
from service.domain.quota import Quota
from service.errors import NotFound
from service.ledger import asof
from service.ledger.asof import Moment

#: The position that an answer is of.
HEADER = "Jobyard-As-Of"


async def asked(call: Call) -> Moment | None:
    """The moment that a request is about, which its answer will name; None: now. Raises `Invalid`."""
    if call.query.as_of is None:
        return None
    found = await asof.moment_of(call.ledger.pool, call.query.as_of)
    call.headers[HEADER] = str(found.position)
    return found


async def job(call: Call, job_id: UUID, moment: Moment) -> Job:
    """A job that the caller could see, as it was. Raises `NotFound`, which says whether it had not come yet
    or was gone to those who may know."""
    found = await with_deleted(call, job_id, moment)
    if found.deleted:
        raise NotFound(f"job {job_id} had been deleted by position {moment.position}")
    return found


async def with_deleted(call: Call, job_id: UUID, moment: Moment) -> Job:
    """As `job`, and also one that was deleted."""
    found = await asof.job(call.ledger.pool, job_id, moment.position)
    if found is None:
        raise NotFound(await _not_yet(call, job_id, moment))
    if not scope.sees(call.token, found):
        raise NotFound(f"there is no job {job_id}")
    return found


async def _not_yet(call: Call, job_id: UUID, moment: Moment) -> str:
    """Why a job was not there."""
    now = await reads.job(call.ledger.pool, job_id)
    if now is None or not scope.sees(call.token, now[0]):
        return f"there is no job {job_id}"
    born = now[0]
    return (
        f"job {job_id} did not exist yet at position {moment.position}: it was submitted at position "
        f"{born.created_position}, {born.created_at.isoformat().replace('+00:00', 'Z')}"
    )


async def quota(call: Call, moment: Moment) -> Quota:
    """The quota of the caller's project. Raises `NotFound` before there was one."""
    found = await asof.quota(call.ledger.pool, call.project, moment.position)
    if found is None:
        raise NotFound(f"project {call.project} did not exist yet at position {moment.position}")
    return found

"""/v1/job/{id}/incident: a job's history in a file that decides anew what was decided."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Annotated

from aiohttp import web
from msgspec import Meta

from service.api import reads, scope
from service.api.call import JSON, Call
from service.api.query import Query
from service.domain import events as ev
from service.domain.job import Job
from service.errors import Forbidden, Invalid, JobyardError, NotFound
from service.ledger.incident import bundle
from service.ledger.incident.bundle import Bundle, Log
from service.ledger.incident.gather import gather

MOST_LINES = 100_000
MOST_LOG_BYTES = 32 * 1024**2
_OF_BUDGET = {ev.BudgetSet.__name__, ev.BudgetWarned.__name__}


class IncidentAsked(Query, frozen=True):
    """`logs` is how many lines of the end of the job's log go along: none, unless they are asked for."""

    logs: Annotated[int, Meta(ge=0, le=MOST_LINES)] = 0


async def export(call: Call) -> web.Response:
    """Also of a job that was deleted: the ledger keeps what happened."""
    asked: IncidentAsked = call.query
    job_id = call.path_id("job")
    found = await reads.job(call.ledger.pool, job_id)
    if found is None or not scope.sees(call.token, found[0]):
        raise NotFound(f"there is no job {job_id}")
    parts = call.service.parts
    docker = await _docker(call)
    async with call.service.exports.taken(call.request, call.project):
        log = await _log(call, found[0], asked.logs) if asked.logs else None
        made = await gather(call.ledger.pool, job_id, parts.settings, docker=docker, log=log)
        _refuse_budget(call, made)
        content = await asyncio.to_thread(bundle.write, made)
    headers = {"Content-Disposition": f'attachment; filename="incident-{job_id}.json"'}
    return web.Response(body=content, content_type=JSON, headers=headers)


def _refuse_budget(call: Call, made: Bundle) -> None:
    """What all of a project's jobs may cost, and do, is for tokens that see all of them. Without it the job
    would not be decided again as it was, so it cannot be left out. Raises `Forbidden`."""
    told = made.budget or any(entry.event.type in _OF_BUDGET for entry in made.events)
    if told and call.token.label_selector is not None:
        raise Forbidden(
            f"token {call.token.name!r} is limited to jobs with {call.token.label_selector}; the project has "
            "had a budget, which an incident bundle holds, and which is for tokens that see all of its jobs"
        )


async def _log(call: Call, job: Job, lines: int) -> Log:
    """Raises `Invalid` for more than is read into memory: nothing is left out of it unsaid."""
    content = bytearray()
    async with aclosing(
        call.service.parts.logs.read(job.id, job.run, project=call.project, tail=lines)
    ) as chunks:
        async for chunk in chunks:
            content += chunk
            if len(content) > MOST_LOG_BYTES:
                said = f"fewer: so many lines of this log are more than {MOST_LOG_BYTES >> 20} MiB"
                raise Invalid("logs", lines, said)
    return Log(run=job.run, lines=content.count(b"\n"), text=content.decode(errors="replace"))


async def _docker(call: Call) -> str | None:
    """The engine's version, when this process knows an engine that answers."""
    duty = call.service.parts.on_duty()
    try:
        return None if duty is None else await duty.version()
    except JobyardError:
        return None

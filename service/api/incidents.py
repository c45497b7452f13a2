"""/v1/job/{id}/incident: a job's history in a file that decides anew what was decided."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from functools import partial
from typing import Annotated

from aiohttp import web
from msgspec import Meta

from service.api import reads, scope
from service.api.call import EDGE, JSON, Call
from service.api.logs import wanted
from service.api.query import Query
from service.api.sent import TOO_MUCH
from service.api.stream import cut_off
from service.domain import events as ev
from service.domain.job import Job
from service.errors import Forbidden, Invalid, JobyardError, NotFound
from service.held import Holding
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
    exports = call.service.exports
    with exports.asked_for(call.project), _held(call) as holding:
        # Reading far into a log can take long: others make their exports meanwhile.
        text = await _log(call, holding, found[0], asked.logs) if asked.logs else None
        async with exports.turn(call.request, call.project):
            log = None if text is None else _kept(found[0], text)
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


@contextmanager
def _held(call: Call) -> Iterator[Holding]:
    """What waits in memory counts with what all clients have there: whoever has the most is cut off."""
    holding = call.service.parts.held.enter(call.project, partial(cut_off, call.request))
    try:
        yield holding
    finally:
        holding.leave()
        if holding.was_cut:
            call.request[EDGE].line["cut"] = TOO_MUCH


async def _log(call: Call, holding: Holding, job: Job, lines: int) -> bytearray:
    """The last lines. Raises `Invalid` for more than is read into memory: nothing is left out of it unsaid;
    and ConnectionResetError once the client has left."""
    content = bytearray()
    read = call.service.parts.logs.read(job.id, job.run, project=call.project, tail=lines)
    async with aclosing(read) as chunks:
        async for chunk in wanted(call.request, chunks):
            content += chunk
            holding.take(len(chunk))
            if len(content) > MOST_LOG_BYTES:
                said = f"fewer: so many lines of this log are more than {MOST_LOG_BYTES >> 20} MiB"
                raise Invalid("logs", lines, said)
    return content


def _kept(job: Job, text: bytearray) -> Log:
    return Log(run=job.run, lines=text.count(b"\n"), text=text.decode(errors="replace"))


async def _docker(call: Call) -> str | None:
    """The engine's version, when this process knows an engine that answers."""
    duty = call.service.parts.on_duty()
    try:
        return None if duty is None else await duty.version()
    except JobyardError:
        return None

"""/v1/job/{id}/log: what a run printed, now or as it comes."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import datetime
from typing import Annotated
from uuid import UUID

from aiohttp import web
from msgspec import Meta

from service.api import jobs
from service.api.call import EDGE, Call
from service.api.client import gone
from service.api.query import Query
from service.api.stream import cut_off, pump
from service.api.watch import Follower
from service.domain.job import Job
from service.domain.states import State
from service.errors import Invalid

MOST_LINES = 1_000_000
#: In the place of the log of a run that had a process, or may have, when there is no file of it (any more).
NONE_KEPT = b"[jobyard] No log of this run is kept here.\n"
#: After a run has ended, more of its output is waited for so long.
LAST_OUTPUT_S = 10.0
#: How often it is looked whether the client is still there.
GONE_S = 1.0


class LogAsked(Query, frozen=True):
    """`run` is the current one unless named; `tail` counts lines from the end; `page` counts from 1, in
    pages of `size` lines. A log that is followed has no pages."""

    tail: Annotated[int, Meta(ge=0, le=MOST_LINES)] | None = None
    follow: bool = False
    since: Annotated[datetime, Meta(tz=True)] | None = None
    timestamps: bool = False
    page: Annotated[int, Meta(ge=1, le=MOST_LINES)] | None = None
    size: Annotated[int, Meta(ge=1, le=MOST_LINES)] = 1000
    run: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None


async def read(call: Call) -> web.StreamResponse:
    asked: LogAsked = call.query
    job, _ = await jobs.seen(call)
    run = asked.run or job.run
    if run > job.run:
        raise Invalid("run", run, f"the job's runs are 1 to {job.run}")
    if asked.follow and asked.page is not None:
        raise Invalid("page", asked.page, "a log that is followed has no pages")
    response = web.StreamResponse()
    response.content_type, response.charset = "text/plain", "utf-8"
    if call.request.method == "HEAD":
        return response
    watch = call.service.watch
    if asked.follow:
        with watch.followed(job.id, run, call.token) as follower:
            # Whatever becomes of the token from here on is told to the follower; this is what was before.
            await call.service.tokens.caller(call.request)
            chunks = call.service.parts.logs.follow(
                job.id,
                run,
                project=call.project,
                tail=asked.tail,
                since=asked.since,
                timestamps=asked.timestamps,
            )
            if await _is_lost(call, job, run):
                chunks = _none_kept(asked)
            await response.prepare(call.request)
            await _follow(call, response, chunks, follower)
    else:
        chunks = call.service.parts.logs.read(
            job.id,
            run,
            project=call.project,
            tail=asked.tail,
            since=asked.since,
            timestamps=asked.timestamps,
            page=asked.page,
            size=asked.size,
        )
        if await _is_lost(call, job, run):
            chunks = _none_kept(asked)
        await response.prepare(call.request)
        async with aclosing(chunks):
            await pump(call.request, response, wanted(call.request, chunks))
    return response


async def wanted(request: web.Request, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """What there is to be sent. Whoever has left is not read any further for."""
    async for chunk in chunks:
        if gone(request):
            raise ConnectionResetError("the client has left")
        if chunk:
            yield chunk


async def _is_lost(call: Call, job: Job, run: int) -> bool:
    """Whether the run is over, had a process, and has no log here. One that printed nothing has one."""
    over = job.ended or run < job.run
    if not over or not _has_begun(job, run):
        return False
    return not await call.service.parts.logs.exists(job.id, run, project=call.project)


def _has_begun(job: Job, run: int) -> bool:
    """Whether the run's process began, or may have; also where the job's history no longer tells."""
    if run == job.run:
        return job.may_have_run
    states = [visit.state for visit in job.history if visit.run == run]
    return not states or states[0] is not State.QUEUED or State.RUNNING in states


async def _none_kept(asked: LogAsked) -> AsyncGenerator[bytes, None]:
    """The one line of such a log, if that is among those that are asked for."""
    if asked.tail != 0 and asked.page in (None, 1):
        yield NONE_KEPT


async def _none_kept_of(call: Call, job: UUID, run: int) -> AsyncGenerator[bytes, None]:
    """As `_none_kept`, of a run that was followed and has ended since."""
    found = await call.ledger.job_now(job)
    if found is not None and await _is_lost(call, found[0], run):
        yield NONE_KEPT


async def _follow(
    call: Call, response: web.StreamResponse, chunks: AsyncGenerator[bytes | None, None], follower: Follower
) -> None:
    """Until the log is complete, the client leaves, its token is revoked or the service closes."""
    request, metrics = call.request, call.service.metrics
    metrics.followers.inc()
    loop = asyncio.get_running_loop()
    source = _Source(chunks)
    pumping = asyncio.create_task(_pump(call, response, source))
    waits = [asyncio.create_task(event.wait()) for event in (follower.cut, follower.over)]
    cut, over = waits
    over_at: float | None = None
    try:
        while not pumping.done() and not cut.done() and not gone(request):
            if over.done():
                over_at = over_at or loop.time()
                if source.silent_s(over_at) >= LAST_OUTPUT_S:
                    break
            pending = {task for task in (pumping, cut, over) if not task.done()}
            await asyncio.wait(pending, timeout=GONE_S, return_when=asyncio.FIRST_COMPLETED)
        is_silent = not pumping.done() and over.done() and not cut.done() and not gone(request)
    finally:
        for task in (pumping, *waits):
            task.cancel()
        await asyncio.gather(pumping, *waits, return_exceptions=True)
        metrics.followers.dec()
    if is_silent:
        await pump(request, response, _none_kept_of(call, call.path_id("job"), follower.run))
    if follower.cut.is_set():
        request[EDGE].line["cut"] = follower.why
        cut_off(request)  # who follows must not take this for the end of the run


async def _pump(call: Call, response: web.StreamResponse, source: _Source) -> None:
    async with aclosing(source.chunks):
        await pump(call.request, response, source.read())


class _Source:
    """A run's output as it comes, and for how long its log has had no more: not while it is looked through,
    nor while the client is waited for, which may take what there is as slowly as `pump` allows."""

    def __init__(self, chunks: AsyncGenerator[bytes | None, None]) -> None:
        self.chunks = chunks
        #: Since when the reader is at the log's end, and when it last looked.
        self._at_end_since, self._looked_at = math.inf, -math.inf

    async def read(self) -> AsyncIterator[bytes]:
        async for chunk in self.chunks:
            if chunk is None:
                self._looked_at = asyncio.get_running_loop().time()
                self._at_end_since = min(self._at_end_since, self._looked_at)
                continue
            self._at_end_since = math.inf
            if chunk:
                yield chunk

    def silent_s(self, since: float) -> float:
        """For how long, from a time on, there was no more; up to the last look, as the next may find some."""
        return self._looked_at - max(since, self._at_end_since)

"""Telling the runs of an engine that nobody looked after them for a time, which their users do not pay."""

from __future__ import annotations

from contextlib import suppress

from service.domain import commands as cmd
from service.domain.states import PLACED
from service.errors import NotFound, WrongState
from service.supervisor.effects import Yard
from service.supervisor.names import RunId


async def adopt(yard: Yard) -> None:
    """Tell every run that has a place here, and then say by the lease that they are looked after: whoever
    takes over from us before that tells them of the whole time."""
    since = yard.presence.since
    if since is not None:
        for job in list(yard.watch.jobs.values()):
            ours = job.state in PLACED and job.engine == yard.engine_id
            if ours and yard.presence.owes(RunId(job.id, job.run)):
                await yard.still_ours()  # many of them take longer than the lease lasts
                with suppress(WrongState, NotFound):  # it moved on meanwhile
                    await yard.report(cmd.AdoptRun, job, absent_since=since)
        yard.presence.all_told()
    await yard.still_ours()

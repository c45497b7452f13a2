"""Pushing what was kept of a run that has ended, as its user ordered.

That lies in the node's state directory, and not in its engine: where that is gone, it is pushed all the same.
"""

from __future__ import annotations

import asyncio
from functools import partial

import structlog

from service.domain.job import Job
from service.domain.states import State
from service.errors import DataError, EngineError, Rejected, StaleEpoch, Unavailable
from service.outward import names
from service.supervisor import container, sync, volumes
from service.supervisor.effects import Yard
from service.supervisor.names import RunId
from service.supervisor.stead import Stead
from service.supervisor.sweep import put_away
from service.tasks import whole

_log = structlog.get_logger()

#: Before it is tried again after what nobody can explain.
_LATER_S = 30.0


def is_ordered(job: Job) -> bool:
    return job.ended and job.push_ordered is not None


async def push_again(yard: Yard, stead: Stead, job: Job) -> bool:
    """Push the volumes that were kept; when that works they need not be kept any longer. As
    `RunDriver.drive`, and nothing is left behind."""
    pause_s = yard.settings.retry_s
    try:
        if job.engine == yard.engine_id or job.engine is None:
            await _push(yard, job)
        else:
            await stead.act(job.engine, partial(_push_unless_answered, job=job))
        return False
    except StaleEpoch:
        raise
    except (Rejected, DataError, Unavailable) as error:
        _log.warning("push again ended", job=str(job.id), run=job.run, error=error.message)
    except Exception:  # noqa: BLE001 (one job's volumes must not end the care for all others)
        _log.exception("push again failed", job=str(job.id), run=job.run)
        pause_s = _LATER_S
    # The order stands unless it was answered, and then this is tried again.
    await asyncio.sleep(pause_s)
    return False


async def _push_unless_answered(yard: Yard, job: Job) -> None:
    """Whoever had the lease before us may have done it."""
    now = await yard.watch.refresh(job.id)
    if now is not None and (now.run, now.push_ordered) == (job.run, job.push_ordered):
        await _push(yard, now)


async def _push(yard: Yard, job: Job) -> None:
    run = RunId(job.id, job.run)
    if job.state is State.ERROR:
        await _let_nothing_write(yard, run)
    with names.asked_by(job.project):
        pushed = await whole(sync.push_all(yard, job, sync_id=job.push_ordered))
    if pushed.problem is None:
        await volumes.remove(yard, run)


async def _let_nothing_write(yard: Yard, run: RunId) -> None:
    """Put away the container that the run left. One that the engine fails to remove is half removed from then
    on, and never starts again: it is the sweep's, and keeps nothing from being pushed."""
    try:
        await put_away(yard, run)
    except EngineError as error:
        left = await container.find(yard, run)
        if left is not None and not container.is_half_removed(left):
            raise
        _log.warning("container stays", job=str(run.job), run=run.run, error=error.message)

"""Putting away what no live run owns: containers and volumes that a crash or an ERROR left behind."""

from __future__ import annotations

from collections.abc import Container

import structlog

from service.domain.states import State
from service.errors import DataError, EngineError
from service.supervisor import container, volumes
from service.supervisor.effects import Yard
from service.supervisor.names import LEDGER, RunId, run_of

_log = structlog.get_logger()


async def sweep(yard: Yard, busy: Container[RunId]) -> None:
    """Remove containers and volumes of runs that have ended, and what the cache has kept for long enough.
    `busy` are the runs that a driver has.

    A run is asked for in the ledger itself: what is not known to be over stays.
    """
    await _containers(yard, busy)
    await _logs(yard, busy)
    await _volumes(yard, busy)
    try:
        await volumes.remove_deleted(yard)
    except DataError as error:
        _log.warning("deleted volume stays", error=error.message)
    try:
        await yard.cache.tidy()
    except DataError as error:
        _log.warning("cache not tidied", error=error.message)


async def _containers(yard: Yard, busy: Container[RunId]) -> None:
    for summary in await yard.engine.list({LEDGER: str(yard.ledger_id)}):
        run = run_of(summary.labels)
        if run is None or run in busy or not await yard.is_over(run):
            continue
        found = await yard.engine.find(summary.id)
        if found is None:
            continue
        _log.info("left-over container", job=str(run.job), run=run.run, container=found.id[:12])
        try:
            if not container.has_ended(found):
                await yard.still_ours()
                await yard.engine.stop(found.id, yard.settings.stop_grace_s)
            await container.put_away(yard, run, found)
        except EngineError as error:
            _log.warning("left-over container stays", container=found.id[:12], error=error.message)


async def _logs(yard: Yard, busy: Container[RunId]) -> None:
    """End those that could not be before. Where a container is left, its log ends as it is put away."""
    for run in [run for run in yard.open_logs if run not in busy]:
        if await container.find(yard, run) is None:
            yard.end_log(run)


async def _volumes(yard: Yard, busy: Container[RunId]) -> None:
    for run in volumes.runs_on_disk(yard):
        if run in busy or not await yard.is_over(run):
            continue
        if volumes.is_kept(yard, run) and await _may_be_pushed_again(yard, run):
            continue
        try:
            await volumes.remove(yard, run)
        except DataError as error:
            _log.warning("left-over volume stays", job=str(run.job), run=run.run, error=error.message)
    volumes.remove_empty(yard)


async def _may_be_pushed_again(yard: Yard, run: RunId) -> bool:
    """Not once the job was deleted, or was started again with the order to discard what was kept.

    Nor when the ledger knows of nothing kept: then a push has worked after the mark was set. What ended in
    ERROR stays.
    """
    job = await yard.ledger.find_job(run.job)
    if job is None or job.deleted or job.run != run.run:
        return False
    return job.volumes_kept or job.state is State.ERROR

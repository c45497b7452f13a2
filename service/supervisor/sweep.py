"""Putting away what no live run owns: containers and volumes that a crash or an ERROR left behind."""

from __future__ import annotations

from collections.abc import Container, Coroutine
from typing import Any

import structlog

from service.domain.states import State
from service.errors import EngineAway, JobyardError, StaleEpoch
from service.supervisor import container, volumes
from service.supervisor.effects import Yard
from service.supervisor.names import LEDGER, RunId, network_name, run_of
from service.tasks import whole

_log = structlog.get_logger()


async def sweep(yard: Yard, busy: Container[RunId]) -> None:
    """Remove containers and volumes of runs that have ended, and what the cache has kept for long enough.
    `busy` are the runs that a driver has.

    A run is asked for in the ledger itself: what is not known to be over stays.
    """
    await _containers(yard, busy)
    await _logs(yard, busy)
    await _volumes(yard, busy)
    await _or_later(_networks(yard), "networks of projects without jobs stay")
    await _or_later(_walls(yard), "the firewall is not looked at")
    await _or_later(volumes.remove_deleted(yard), "deleted volume stays")
    await _or_later(yard.cache.tidy(), "cache not tidied")


async def _or_later(work: Coroutine[Any, Any, None], if_not: str, **facts: str | int) -> None:
    """Do one thing. What keeps it from being done is logged and tried again by the next sweep: it keeps
    nothing else from being put away, nor any job from its care.

    Raises `StaleEpoch` and `EngineAway`, as all that follows would.
    """
    try:
        await whole(work)
    except (StaleEpoch, EngineAway):
        raise
    except JobyardError as error:
        _log.warning(if_not, **facts, error=error.message)
    except Exception:  # noqa: BLE001 (see above: whatever it is)
        _log.exception(if_not, **facts)


async def _containers(yard: Yard, busy: Container[RunId]) -> None:
    for summary in await yard.engine.list({LEDGER: str(yard.ledger_id)}):
        run = run_of(summary.labels)
        if run is None or run in busy or not await yard.is_over(run):
            continue
        work = _put_away(yard, run, summary.id)
        await _or_later(work, "left-over container stays", job=str(run.job), container=summary.id[:12])


async def put_away(yard: Yard, run: RunId) -> None:
    """Put away the container that a run left behind, if it did: nothing writes to its volumes afterwards."""
    found = await container.find(yard, run)
    if found is not None:
        await _put_away(yard, run, found.id)


async def _put_away(yard: Yard, run: RunId, container_id: str) -> None:
    found = await yard.engine.find(container_id)
    if found is None:
        return
    _log.info("left-over container", job=str(run.job), run=run.run, container=found.id[:12])
    if not container.has_ended(found):
        await yard.still_ours()
        await yard.engine.stop(found.id, yard.settings.stop_grace_s)
    await container.put_away(yard, run, found)


async def _networks(yard: Yard) -> None:
    """Of projects without jobs that may use them."""
    ledger = yard.ledger_id
    used = {network_name(ledger, job.project) for job in yard.watch.jobs.values()}
    await yard.engine.spare_networks({LEDGER: str(ledger)}, used)


async def _walls(yard: Yard) -> None:
    """Others may have made the host's firewall anew since the shift began and told whether it can be set."""
    await yard.engine.block_metadata()


async def _logs(yard: Yard, busy: Container[RunId]) -> None:
    """End those that could not be before. Where a container is left, its log ends as it is put away."""
    for run in list(yard.open_logs):
        if run not in busy and await yard.is_over(run):
            await _or_later(_end_log(yard, run), "log not ended", job=str(run.job), run=run.run)


async def _end_log(yard: Yard, run: RunId) -> None:
    if await container.find(yard, run) is None:
        job = await yard.ledger.find_job(run.job)
        yard.end_log(run, gone=job is not None and job.run == run.run and job.may_have_run)


async def _volumes(yard: Yard, busy: Container[RunId]) -> None:
    for run in volumes.runs_on_disk(yard):
        if run in busy or not await yard.is_over(run):
            continue
        if await _may_be_pushed_again(yard, run):
            continue
        await _or_later(volumes.remove(yard, run), "left-over volume stays", job=str(run.job), run=run.run)
    volumes.remove_empty(yard)


async def _may_be_pushed_again(yard: Yard, run: RunId) -> bool:
    """Not once the job was deleted, or was started again with the order to discard what was kept.

    Nor when the ledger knows of nothing kept: then a push has worked after the mark was set. What was marked
    and ended in ERROR stays: before `RunErrored` could say so, it did not.
    """
    job = await yard.ledger.find_job(run.job)
    if job is None or job.deleted or job.run != run.run:
        return False
    return job.volumes_kept or (job.state is State.ERROR and volumes.is_kept(yard, run))

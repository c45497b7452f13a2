"""Containers that were seen running after they were to be stopped, written down before they are stopped.

Whoever looks after the run next then knows that the order came first, and need not compare the engine's time
of the end with the ledger's time of the order: one of their clocks may have been set back in between.
"""

from __future__ import annotations

import structlog

from service.supervisor import volumes
from service.supervisor.data import disk
from service.supervisor.effects import Yard
from service.supervisor.names import RunId

_log = structlog.get_logger()
_PREFIX = "stopped-"


async def mark(yard: Yard, run: RunId, container_id: str) -> None:
    """Before it is stopped, whether the disk takes the mark or not: without one, times are compared."""
    try:
        await disk.run(volumes.mark, yard, run, f"{_PREFIX}{container_id}")
    except OSError as error:
        _log.warning("stop not marked", job=str(run.job), run=run.run, error=str(error))


def is_marked(yard: Yard, run: RunId, container_id: str) -> bool:
    return (volumes.run_dir(yard, run) / f"{_PREFIX}{container_id}").exists()

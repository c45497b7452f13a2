"""Budgets are reached while nothing happens but time: so each project that has runs here is looked at."""

from __future__ import annotations

from service.domain import commands as cmd
from service.domain.states import PLACED
from service.supervisor.effects import Yard


async def look(yard: Yard) -> None:
    """Have the ledger warn of what the placed runs of this engine have come to.

    Of a project without a budget, or that has reached no other share, nothing is recorded. Raises
    `StaleEpoch` when the engine is no longer ours.
    """
    ours = (job for job in yard.watch.jobs.values() if job.engine == yard.engine_id and job.state in PLACED)
    for project in sorted({job.project for job in ours}):
        await yard.ledger.submit(
            cmd.CheckBudget(project=project, engine=yard.engine_id, epoch=yard.epoch),
            actor=f"supervisor:{yard.engine_id[:12]}",
        )

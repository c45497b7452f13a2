"""`decide(command, context) -> decisions`: what happens when somebody wants something, or a refusal.

Pure: the time, the states and the lease come in with the context, which the ledger's writer loads under
the head lock. A refusal is raised as one of `service.errors.Rejected` and records nothing. No decisions
at all means that the wish is already true.
"""

from __future__ import annotations

from service.domain import commands as cmd
from service.domain import decide_job, decide_project, decide_run
from service.domain.context import Context, Decision
from service.errors import StaleEpoch


def decide(command: cmd.Command, context: Context) -> list[Decision]:
    """The events that follow from a command. Raises a `Rejected` when it cannot be done."""
    if isinstance(command, cmd.EngineCommand) and command.epoch != context.epoch:
        raise StaleEpoch(
            f"epoch {command.epoch} of engine {command.engine} is over; {context.epoch} is in force"
        )
    match command:
        case cmd.RunCommand():
            return decide_run.decide(command, context)
        case cmd.JobCommand():
            return decide_job.decide(command, context)
        case _:
            return decide_project.decide(command, context)

"""`decide(command, context) -> decisions`: what happens when somebody wants something, or a refusal.

Pure: the time, the states and the lease come in with the context, which the ledger's writer loads under
the head lock. A refusal is raised as one of `service.errors.Rejected` and records nothing of what was wanted;
one for a limit of the project may carry an event that says so (`decide_refusal`). No decisions at all means
that the wish is already true.
"""

from __future__ import annotations

from service.domain import commands as cmd
from service.domain import decide_billing, decide_job, decide_keys, decide_project, decide_run
from service.domain.context import Context, Decision
from service.errors import StaleEpoch


def decide(command: cmd.Command, context: Context) -> list[Decision]:
    """The events that follow from a command. Raises a `Rejected` when it cannot be done."""
    if isinstance(command, cmd.EngineCommand) and command.epoch != context.epoch:
        raise StaleEpoch(
            f"epoch {command.epoch} of engine {command.engine} is over; {context.epoch} is in force"
        )
    decide_keys.require_key(command, context.project)
    match command:
        case cmd.RunCommand():
            return decide_run.decide(command, context)
        case cmd.JobCommand():
            return decide_job.decide(command, context)
        case cmd.BillCommand():
            return decide_billing.decide(command, context)
        case _:
            return decide_project.decide(command, context)

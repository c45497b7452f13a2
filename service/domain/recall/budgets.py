"""Back to what was wanted of a project's budget."""

from __future__ import annotations

from service.domain import commands as cmd
from service.domain import events as ev
from service.domain.events import Event
from service.domain.recall.base import Before, Inverse


def _set(event: Event, _before: Before) -> cmd.Command:
    body: ev.BudgetSet = event.body
    return cmd.SetBudget(
        project=event.project, amount=body.amount, currency=body.currency, warn_at=body.warn_at
    )


def _warned(event: Event, before: Before) -> cmd.Command:
    """One that stands alone came of a look. Beside others it is not what its command was about."""
    return cmd.CheckBudget(project=event.project, engine="", epoch=before.epoch)


INVERSES: dict[type[ev.Body], Inverse] = {ev.BudgetSet: _set, ev.BudgetWarned: _warned}

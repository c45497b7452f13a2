"""The inverse of `decide`: from the events of one command back to the command, to have it decided anew.

What came from outside (an exit code, when a container started, what a user asked for) is taken from the
events; what was decided (the states, the outcome, the words, the price, when the timeout is) is not, and must
come out again. Some of what was said left no trace, as it made no difference: the scope of a token, say.
Every type of event has its inverse here (tests/unit/test_recall.py); a new one goes where its noun is.
"""

from __future__ import annotations

from collections.abc import Sequence

from service.domain import commands as cmd
from service.domain import events as ev
from service.domain.events import Event
from service.domain.recall import billing, budgets, jobs, projects, runs, webhooks
from service.domain.recall.base import Before, Inverse

__all__ = ["INVERSES", "Before", "recall"]

#: By type of event; `ProjectCreated` is `recall`'s own, as it takes two events to tell what was asked.
INVERSES: dict[type[ev.Body], Inverse] = (
    jobs.INVERSES
    | runs.INVERSES
    | projects.INVERSES
    | billing.INVERSES
    | budgets.INVERSES
    | webhooks.INVERSES
)


def recall(events: Sequence[Event], before: Before) -> cmd.Command | None:
    """The command that these events, all that it led to, came from; None where they do not hold all of it."""
    told = _telling(events)
    if isinstance(told.body, ev.ProjectCreated):
        created = told.body
        return cmd.CreateProject(
            project=told.project, name=created.name, cpu=created.cpu, gpu=created.gpu, token=_token_of(events)
        )
    return INVERSES[type(told.body)](told, before)


def _telling(events: Sequence[Event]) -> Event:
    """The event that a command was about. Before it a timeout may be noted that had passed unseen, or the end
    of a push that a deletion cut short; after it comes the deletion that was ordered with an interrupt, or
    the token that a project is made with."""
    before = len(events) > 1 and isinstance(events[0].body, ev.TimeoutReached | ev.DataSyncMoved)
    return events[1 if before else 0]


def _token_of(events: Sequence[Event]) -> cmd.FirstToken | None:
    bodies = [event.body for event in events if isinstance(event.body, ev.TokenCreated)]
    return cmd.FirstToken(bodies[0].token_id, bodies[0].sha256) if bodies else None

"""A story once more, as it was or otherwise, by the folds that the service runs."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from projections.waiting.compare import Compared, compared
from projections.waiting.history import history
from projections.waiting.moments import absences
from projections.waiting.pieces import History, RunKey
from projections.waiting.simulate import Change
from projections.waiting.yard import MOVES, PastYard
from service.domain import events as ev
from tests.support.jobs import T0
from tests.support.story import Story


def past(story: Story, begin_s: float = 0, end_s: float | None = None) -> History:
    begin = T0 + timedelta(seconds=begin_s)
    end = story.ledger.now if end_s is None else T0 + timedelta(seconds=end_s)
    yard = PastYard()
    before = [event for event in story.events if event.recorded_at <= begin]
    after = [event for event in story.events if event.recorded_at > begin]
    for event in before:
        yard.apply(event)
    needed = (*MOVES, ev.SupervisorStarted)
    return history(
        yard,
        [event for event in after if isinstance(event.body, needed)],
        absences(story.events),
        begin,
        end,
        before=[event for event in before if isinstance(event.body, MOVES)],
        refused=[event for event in story.events if isinstance(event.body, ev.SubmissionRefused)],
        limits=[
            event
            for event in story.events
            if isinstance(event.body, ev.QuotaSet | ev.ProjectCreated) and event.recorded_at <= end
        ],
        prices=[event for event in story.events if isinstance(event.body, ev.PricesSet)],
    )


def whatif(
    story: Story, since_s: float = 0, end_s: float | None = None, warm_s: float = 0, **change: Any
) -> dict[RunKey, Compared]:
    """By run. `warm_s`: so much of the history is gone through before."""
    since: datetime = T0 + timedelta(seconds=since_s)
    found = compared(past(story, since_s - warm_s, end_s), Change(since, **change))
    return {each.piece.key: each for each in found}

"""What a webhook wants, as the streams know it."""

from __future__ import annotations

from service.domain.filters import EventFilter
from service.domain.selectors import parse_selector
from service.domain.webhooks import Wanted


def filter_of(project: str, wanted: Wanted) -> EventFilter:
    """A webhook is an administrator's, who sees all of the project."""
    text = wanted.label_selector
    return EventFilter(
        project=project,
        jobs=frozenset(wanted.jobs),
        types=frozenset(wanted.types),
        states=frozenset(wanted.states),
        selector=None if text is None else parse_selector("labelSelector", text),
        tokens=True,
    )

"""Which events somebody wants to hear of, and may: by project, job, type, state and labels.

Labels are those that the job had right after the event, so that the answer never changes: what was in a
token's scope when it happened stays there, and what was not does not come into it later.
"""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

import msgspec

from service.domain.events import Event, Move, TokenCreated, TokenRenewed, TokenRevoked
from service.domain.selectors import Selector
from service.domain.states import State

_TOKENS = TokenCreated | TokenRenewed | TokenRevoked


class EventFilter(msgspec.Struct, frozen=True, kw_only=True):
    """All that are named must hold. Empty or None asks for nothing.

    `types` are names of event bodies; `states` are those that a job came into; `selector` is what was asked
    for, `scope` the token's own: both take only events of jobs. `tokens`: those about tokens may be seen.
    """

    project: str
    jobs: frozenset[UUID] = frozenset()
    types: frozenset[str] = frozenset()
    states: frozenset[State] = frozenset()
    selector: Selector | None = None
    scope: Selector | None = None
    tokens: bool = False

    @property
    def needs_labels(self) -> bool:
        return self.selector is not None or self.scope is not None

    def may_want(self, event: Event) -> bool:
        """Whether the event is wanted, as far as can be told without the job's labels."""
        if event.project != self.project or (self.types and event.type not in self.types):
            return False
        if self.jobs and event.job not in self.jobs:
            return False
        if self.states and not (isinstance(event.body, Move) and event.body.target in self.states):
            return False
        if self.needs_labels and event.job is None:
            return False
        return self.tokens or not isinstance(event.body, _TOKENS)

    def wants(self, event: Event, labels: Mapping[str, str]) -> bool:
        """Whether the event is wanted; `labels` are the job's right after it (none for one of no job)."""
        return self.may_want(event) and all(
            asked is None or asked.matches(labels) for asked in (self.selector, self.scope)
        )

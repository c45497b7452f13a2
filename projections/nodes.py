"""`nodes`: one row an engine, with what its node can offer."""

from __future__ import annotations

from projections.fold import Fold
from service.domain.directory import Node
from service.domain.events import Event, SupervisorStarted


def key(event: Event) -> str | None:
    return event.body.engine if isinstance(event.body, SupervisorStarted) else None


def evolve(_row: Node | None, event: Event) -> Node:
    body: SupervisorStarted = event.body
    return Node(
        engine=body.engine,
        name=body.node,
        cpus=body.cpus,
        memory=body.memory,
        gpus=body.gpus,
        started_at=event.recorded_at,
    )


FOLD = Fold("nodes", Node, key, evolve)

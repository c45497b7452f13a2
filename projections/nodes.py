"""`nodes`: one row an engine, with what its node can offer."""

from __future__ import annotations

from msgspec.structs import replace

from projections.fold import Fold
from service.domain.directory import Node
from service.domain.events import AdmissionSet, Event, SupervisorStarted


def key(event: Event) -> str | None:
    return event.body.engine if isinstance(event.body, SupervisorStarted | AdmissionSet) else None


def evolve(row: Node | None, event: Event) -> Node:
    if isinstance(event.body, AdmissionSet):
        known = row or Node(event.body.engine, event.body.node, 0, 0, 0, event.recorded_at)
        return replace(known, stopped=event.body.stopped.code if event.body.stopped else "")
    body: SupervisorStarted = event.body
    return Node(
        engine=body.engine,
        name=body.node,
        cpus=body.cpus,
        memory=body.memory,
        gpus=body.gpus,
        started_at=event.recorded_at,
    )


FOLD = Fold("nodes", Node, key, evolve, SupervisorStarted | AdmissionSet)

"""What caused what: from a request to its effects, worked out from the events alone.

An order of a user has no cause but its request. What a supervisor reports follows from something earlier of
the same job: a place from being queued, a start from a place, an end from what ended it. These rules say
which; they add nothing to the ledger, so they hold for old events as well, and may be made better.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from service.domain import events as ev

#: What nothing follows from. A run may have thousands of these: whoever asks for causes may leave them out.
LEADING_NOWHERE = ("DataSyncMoved", "ExecOpened", "LabelSet", "RunAdopted", "RunNoted")


#: What is more to know of than its type: the order that it is, or that it carries out.
TELLING = ("DataSyncMoved", "InterruptOrdered", "PushOrdered", "SyncOrdered")


class Step(NamedTuple):
    """Of an event what tells causes: `sync_id` is the order to move data that it is or carries out, and
    `then_delete` whether its job is to be deleted once it has ended."""

    position: int
    job: UUID | None
    kind: type[ev.Body]
    request_id: str | None
    sync_id: str
    then_delete: bool


def step_of(
    position: int, job: UUID | None, kind: type[ev.Body], request_id: str | None, body: ev.Body | None
) -> Step:
    """`body` of a type that is not `TELLING` need not be known: None."""
    sync_id, then_delete = getattr(body, "sync_id", ""), getattr(body, "then_delete", False)
    return Step(position, job, kind, request_id, sync_id, then_delete)


def causes(steps: Iterable[Step]) -> dict[int, int | None]:
    """The position of the event that caused each: None for what no event of its job did. In order."""
    jobs: dict[UUID, _Job] = {}
    found = {}
    for step in steps:
        job = jobs.setdefault(step.job, _Job()) if step.job is not None else None
        found[step.position] = None if job is None else job.cause_of(step)
    return found


def chain(position: int, found: dict[int, int | None]) -> list[int]:
    """From the first cause down to an event's own cause; empty for one that has none."""
    steps: list[int] = []
    at = found.get(position)
    while at is not None:
        steps.append(at)
        at = found.get(at)
    return steps[::-1]


class _Job:
    """What of one job may still cause something."""

    def __init__(self) -> None:
        self._move: int | None = None  # the last move of the current run
        self._stopped: int | None = None  # what ends the current run: an order, its timeout, its storage
        self._ended: int | None = None  # the end of its process, or that there will be none
        self._started: int | None = None
        self._timeout: int | None = None  # what its timeout counts by: its start, or an edit since
        self._orders: dict[str, int] = {}  # data to be moved, by the id of the sync
        self._deletion: int | None = None  # an order that the job is to be deleted once it has ended

    def cause_of(self, step: Step) -> int | None:
        cause = self._cause(step)
        self._note(step)
        return cause

    def _cause(self, step: Step) -> int | None:
        match step.kind:
            case ev.RunQueued:
                return None if step.request_id else self._ended or self._stopped
            case ev.TimeoutReached:
                return self._timeout
            case ev.StorageExceeded:
                return self._started
            case ev.RunExited | ev.RunAborted:
                return self._stopped or self._move
            case ev.RunFinalized:
                return self._ended or self._move
            case ev.JobDeleted:
                return self._deletion
            case ev.DataSyncMoved:
                return self._orders.get(step.sync_id, self._move)
            case ev.JobSubmitted | ev.InterruptOrdered | ev.PushOrdered | ev.SyncOrdered:
                return None
            case ev.JobEdited | ev.LabelSet | ev.ExecOpened:
                return None
            case _:
                return None if step.request_id else self._move

    def _note(self, step: Step) -> None:
        at = step.position
        match step.kind:
            case ev.JobSubmitted | ev.RunQueued:
                self._stopped = self._ended = self._started = self._timeout = None
            case ev.RunStarted:
                self._started = self._timeout = at
            case ev.JobEdited:
                self._timeout = at if self._started else None
            case ev.InterruptOrdered:
                self._stopped = self._stopped or at
                self._deletion = at if step.then_delete else self._deletion
            case ev.TimeoutReached | ev.StorageExceeded:
                self._stopped = self._stopped or at
            case ev.RunExited | ev.RunAborted:
                self._ended = at
            case ev.SyncOrdered | ev.PushOrdered:
                self._orders[step.sync_id] = at
            case _:
                pass
        if issubclass(step.kind, ev.Move):
            self._move = at

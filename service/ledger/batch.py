"""One batch of commands becoming events: pure, so that it can be tested without a database.

The writer loads the rows under the head lock and hands them in; what comes out is what to append, which
fold rows changed, and which callers were refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from projections import prices
from projections.rows import Key, Rows
from service.domain import canonical
from service.domain import commands as cmd
from service.domain.commands import Submission
from service.domain.context import Context, Decision
from service.domain.decide import decide
from service.domain.events import Event, encode_body
from service.errors import Invalid, Rejected
from service.ledger.chain import Sealing, link


@dataclass
class Appended:
    """One new event with its stored form."""

    event: Event
    data: str
    hash: bytes


@dataclass
class Batch:
    """The events of one commit, in order, after the head at `position` with `hash`."""

    now: datetime
    position: int
    hash: bytes
    rows: Rows
    epochs: dict[str, int]
    #: The data stores that live jobs had before this batch, by project: of those that lose one in it.
    stores_used: dict[str, set[str]] = field(default_factory=dict)
    appended: list[Appended] = field(default_factory=list)
    postponed: list[tuple[Event, list[Key]]] = field(default_factory=list)

    def carry_out(self, submission: Submission) -> list[Event] | Rejected:
        """Decide one command on what those before it in the batch have left; a refusal changes nothing."""
        try:
            decisions = decide(submission.command, self._context(submission.command))
            bodies = [encode_body(decision.body) for decision in decisions]
            if (problem := next(filter(None, map(canonical.problem, bodies)), None)) is not None:
                raise Invalid("body", problem, "the ledger keeps text without NUL and whole numbers to 2**53")
        except Rejected as refusal:
            return refusal
        return [
            self._append(submission, decision, body) for decision, body in zip(decisions, bodies, strict=True)
        ]

    def _context(self, command: cmd.Command) -> Context:
        keys = dict(keys_of(command))
        job = self.rows.get("status", keys.get("status"))
        project = command.project or (job.project if job else None)
        known = project is not None and ("quota", project) in self.rows
        return Context(
            now=self.now,
            job=job,
            quota=self.rows.get("quota", project) if known else None,
            project=self.rows.get("projects", project) if known else None,
            token=self.rows.get("tokens", keys.get("tokens")),
            prices=self.rows.get("prices", prices.KEY) or Context(now=self.now).prices,
            epoch=self.epochs.get(command.engine) if isinstance(command, cmd.EngineCommand) else None,
            stores_used=self._stores_used(command),
        )

    def _stores_used(self, command: cmd.Command) -> frozenset[str]:
        """Those of the jobs that were there, and of all that this very batch has to do with."""
        project = command.project
        if project is None or not isinstance(command, cmd.RemoveDataStore):
            return frozenset()
        used = set(self.stores_used.get(project, ()))
        events = [entry.event for entry in self.appended if entry.event.project == project]
        ours = {str(event.job) for event in events if event.job is not None}
        for job in filter(None, (self.rows.get("status", key) for key in ours)):
            used |= {alias for volume in job.spec.volumes for alias in volume.stores}
        return frozenset(used)

    def _append(self, submission: Submission, decision: Decision, body: bytes) -> Event:
        self.position += 1
        event = Event(
            position=self.position,
            project=decision.project,
            job=decision.job,
            run=decision.run,
            body=decision.body,
            occurred_at=decision.occurred_at.astimezone(UTC),
            recorded_at=self.now,
            actor=submission.actor,
            command_id=submission.id,
            request_id=submission.request_id,
        )
        self.hash = link(self.hash, _sealing(event, body))
        self.appended.append(Appended(event, body.decode(), self.hash))
        self._fold(event)
        return event

    def _fold(self, event: Event) -> None:
        """Fold into the rows at hand; rows that no command is decided on may be loaded after deciding."""
        keys = self.rows.keys_of(event)
        missing = self.rows.missing(keys)
        self.rows.fold(event, [key for key in keys if key not in missing])
        if missing:
            self.postponed.append((event, missing))

    def missing(self) -> list[Key]:
        """The rows that the postponed folding needs."""
        return self.rows.missing(key for _, keys in self.postponed for key in keys)

    def fold_postponed(self) -> None:
        """Fold what was postponed, in the order of the events, once its rows have been loaded."""
        for event, keys in self.postponed:
            self.rows.fold(event, keys)
        self.postponed.clear()


def keys_of(command: cmd.Command) -> list[Key]:
    """The rows that a command is decided on. A run's project must come with its command."""
    keys: list[Key] = [("prices", prices.KEY)]
    if command.project is not None:
        keys += [("quota", command.project), ("projects", command.project)]
    if isinstance(command, cmd.JobCommand | cmd.RunCommand):
        keys.append(("status", str(command.job)))
    if isinstance(command, cmd.CreateToken | cmd.RenewToken | cmd.RevokeToken):
        keys.append(("tokens", command.token_id))
    return keys


def _sealing(event: Event, body: bytes) -> Sealing:
    return Sealing(
        position=event.position,
        project=event.project,
        job=event.job,
        run=event.run,
        type=event.type,
        data=msgspec.Raw(body),
        occurred_at=event.occurred_at,
        recorded_at=event.recorded_at,
        actor=event.actor,
        command_id=event.command_id,
        request_id=event.request_id,
    )


def insert_columns(appended: list[Appended]) -> tuple[list[Any], ...]:
    """Events as the parallel arrays that `unnest` takes, in the order of the table's columns."""
    events = [entry.event for entry in appended]
    return (
        [event.position for event in events],
        [event.project for event in events],
        [event.job for event in events],
        [event.run for event in events],
        [event.type for event in events],
        [entry.data for entry in appended],
        [event.occurred_at for event in events],
        [event.recorded_at for event in events],
        [event.actor for event in events],
        [event.command_id for event in events],
        [event.request_id for event in events],
        [entry.hash for entry in appended],
    )


def command_columns(done: dict[UUID, tuple[Submission, list[Event]]]) -> tuple[list[Any], ...]:
    """The commands that were carried out, as parallel arrays."""
    entries = [(submission, events) for submission, events in done.values() if events]
    return (
        [submission.id for submission, _ in entries],
        [submission.digest for submission, _ in entries],
        [events[0].position for _, events in entries],
        [events[-1].position for _, events in entries],
    )

"""One batch of commands becoming events: pure, so that it can be tested without a database.

The writer loads the rows under the head lock and hands them in; what comes out is what to append, which
fold rows changed, and which callers were refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple

import msgspec

from projections import prices
from projections.rows import Key, Rows
from service.domain import canonical
from service.domain import commands as cmd
from service.domain.budget import Spend, Standing
from service.domain.commands import Submission
from service.domain.context import Context, Decision
from service.domain.decide import decide
from service.domain.directory import PriceBook
from service.domain.events import Event, encode_body
from service.domain.ids import text_of
from service.domain.refusals import Refusals
from service.errors import Invalid, Rejected
from service.ledger.chain import Sealing, link


class Appended(NamedTuple):
    """One new event with its stored form."""

    event: Event
    data: str
    hash: bytes


class Done(NamedTuple):
    """A command that was carried out, with its events, and where the ledger ended then."""

    submission: Submission
    events: Sequence[Event]
    position: int


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
    #: The live jobs that there were before this batch, by project: of those that are erased in it.
    live_jobs: dict[str, set[str]] = field(default_factory=dict)
    appended: list[Appended] = field(default_factory=list)
    #: How many of them are on their way to the database already.
    sent: int = 0
    postponed: list[tuple[Event, list[Key]]] = field(default_factory=list)
    #: How projects stand at their budgets, with the row that it was worked out from.
    _standings: dict[str, tuple[Spend, Standing | None]] = field(default_factory=dict)

    def carry_out(self, submission: Submission) -> list[Event] | Rejected:
        """Decide one command on what those before it in the batch have left.

        A refusal changes nothing, but may itself be recorded. Its command is not among those carried out: a
        repeat is decided anew.
        """
        try:
            decided = decide(submission.command, self._context(submission.command))
            events = self._recorded(submission, decided)
        except Rejected as refusal:
            try:
                self._recorded(submission, [each for each in refusal.decisions if isinstance(each, Decision)])
            except Invalid as worse:  # what it would say of the refusal has no place in the ledger
                return worse
            return refusal
        return events + self._warned(submission, events)

    def _recorded(self, submission: Submission, decisions: list[Decision]) -> list[Event]:
        """Append all of them, or raise `Invalid` and none."""
        bodies = [encode_body(decision.body) for decision in decisions]
        for body in bodies:
            if (problem := canonical.problem(body)) is not None:
                raise Invalid("body", problem, "the ledger keeps text without NUL and whole numbers to 2**53")
        return [
            self._append(submission, decision, body) for decision, body in zip(decisions, bodies, strict=True)
        ]

    def _warned(self, submission: Submission, events: list[Event]) -> list[Event]:
        """The warnings of a budget whose shares are reached, now that the command has been carried out."""
        project = submission.command.project
        if project is None or not (events or isinstance(submission.command, cmd.CheckBudget)):
            return []
        standing = self._standing(project)
        decisions = [
            Decision(body=body, occurred_at=self.now, project=project)
            for body in (standing.due() if standing else ())
        ]
        return [self._append(submission, each, encode_body(each.body)) for each in decisions]

    def _standing(self, project: str) -> Standing | None:
        """Worked out once for each state of the project's spending: all of a batch happens at one time."""
        row = self.rows.get("spend", project) if ("spend", project) in self.rows else None
        if row is None:
            return None
        known = self._standings.get(project)
        if known is None or known[0] is not row:
            known = self._standings[project] = (row, row.standing(self.now))
        return known[1]

    def _context(self, command: cmd.Command) -> Context:
        named = {fold: self.rows.get(fold, key) for fold, key in _named(command)}
        job = named.get("status")
        project = command.project or (job.project if job else None)
        known = project is not None and ("quota", project) in self.rows
        return Context(
            now=self.now,
            job=job,
            quota=self.rows.get("quota", project) if known else None,
            project=self.rows.get("projects", project) if known else None,
            token=named.get("tokens"),
            prices=self.rows.get("prices", prices.KEY) or _NO_PRICES,
            epoch=self.epochs.get(command.engine) if isinstance(command, cmd.EngineCommand) else None,
            stores_used=self._stores_used(command),
            webhooks=named.get("webhooks"),
            position=self.position,
            budget=self._standing(project) if known and project is not None else None,
            bill=named.get("billing"),
            live_jobs=self._live_jobs(command),
            refusals=named.get("refusals") or _NO_REFUSALS,
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

    def _live_jobs(self, command: cmd.Command) -> int:
        """How many have not ended, or push, after what this batch has done to them so far."""
        project = command.project
        if project is None or not isinstance(command, cmd.EraseProject):
            return 0
        events = [entry.event for entry in self.appended if entry.event.project == project]
        touched = {str(event.job) for event in events if event.job is not None}
        jobs = [self.rows.get("status", key) for key in touched]
        live = {str(job.id) for job in jobs if job is not None and (not job.ended or job.push_ordered)}
        return len((self.live_jobs.get(project, set()) - touched) | live)

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
            client_address=submission.client_address,
        )
        self.hash = link(self.hash, _sealing(event, body))
        self.appended.append(Appended(event, body.decode(), self.hash))
        self._fold(event)
        return event

    def _fold(self, event: Event) -> None:
        """Fold into the rows at hand; rows that no command is decided on may be loaded after deciding."""
        if missing := self.rows.fold_at_hand(event):
            self.postponed.append((event, missing))

    def unsent(self) -> list[Appended]:
        """The events that have not been taken yet; now they are."""
        first, self.sent = self.sent, len(self.appended)
        return self.appended[first:]

    def missing(self) -> list[Key]:
        """The rows that the postponed folding needs."""
        return self.rows.missing(key for _, keys in self.postponed for key in keys)

    def fold_postponed(self) -> None:
        """Fold what was postponed, in the order of the events, once its rows have been loaded."""
        for event, keys in self.postponed:
            self.rows.fold(event, keys)
        self.postponed.clear()


def keys_of(command: Any) -> list[Key]:
    """The rows that a command is decided on. A run's project must come with its command."""
    project = command.project
    keys: list[Key] = [("prices", prices.KEY)]
    if project is not None:
        keys += [("quota", project), ("projects", project), ("spend", project)]
    return keys + _named(command)


def _named(command: Any) -> list[Key]:
    """Of those, the ones that a command of its type names."""
    kind: type[cmd.Command] = type(command)
    folds = _named_by(kind)
    keys: list[Key] = []
    if command.project is not None:
        keys += [(fold, command.project) for fold in _OF_PROJECTS if fold in folds]
    if "status" in folds and command.job is not None:
        keys.append(("status", text_of(command.job)))
    if "billing" in folds and command.job is not None:
        keys.append(("billing", f"{text_of(command.job)}/{command.run}"))
    if "tokens" in folds:
        keys.append(("tokens", command.token_id))
    return keys


_OF_PROJECTS = ("refusals", "webhooks")
_NO_PRICES = PriceBook()
_NO_REFUSALS = Refusals()

_NAMING: dict[str, Any] = {
    "refusals": cmd.SubmitJob | cmd.StartJob,
    "status": cmd.JobCommand | cmd.RunCommand | cmd.BillCommand,
    "billing": cmd.BillCommand,
    "tokens": cmd.CreateToken | cmd.RenewToken | cmd.RevokeToken,
    "webhooks": cmd.WebhookCommand,
}


@cache
def _named_by(kind: type[cmd.Command]) -> frozenset[str]:
    """The folds of which commands of a type name a row, beside those of every project."""
    return frozenset(fold for fold, kinds in _NAMING.items() if issubclass(kind, kinds))


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
        client_address=msgspec.UNSET if event.client_address is None else event.client_address,
    )


def event_records(appended: list[Appended]) -> list[tuple[Any, ...]]:
    """Events as the `new_event`s that an append takes."""
    return [
        (
            event.position,
            event.project,
            event.job,
            event.run,
            event.type,
            data,
            event.occurred_at,
            event.actor,
            event.command_id,
            event.request_id,
            hashed,
            event.client_address,
        )
        for event, data, hashed in appended
    ]


def command_records(done: list[Done]) -> list[tuple[Any, ...]]:
    """The commands that were carried out, as `new_command`s. One without events has an empty range."""
    return [
        (submission.id, submission.digest, position - len(events) + 1, position)
        for submission, events, position in done
    ]

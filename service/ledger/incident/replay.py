"""Replay: every command of a bundle decided anew, and compared with what the ledger recorded. Pure.

The very `decide` of the service runs, on the job folded from the events before, at the time that it was, with
the quota as it stood. A difference means that the rules are others now, or that the events are not what they
say they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from projections import prices
from projections.rows import Rows
from service.domain import commands as cmd
from service.domain.bills.statement import Month
from service.domain.budget import ZERO, Budget, Standing
from service.domain.context import Context, Decision
from service.domain.decide import decide
from service.domain.decide_run import BUDGET_SPENT
from service.domain.events import (
    BudgetSet,
    BudgetWarned,
    Event,
    RunFinalized,
    RunPlaced,
    SubmissionRefused,
    SupervisorStarted,
    encode_body,
)
from service.domain.quota import Quota
from service.domain.recall import Before, recall
from service.errors import Rejected
from service.ledger.incident.bundle import BudgetAt, Bundle, RoomAt, events_of

_FOLDS = ("status", "quota", "projects", "tokens", "prices", "refusals", "billing", "webhooks")
NOTHING = "nothing"


class Difference(NamedTuple):
    """Where what is decided now is not what was recorded. `field` is a dotted path; both values are JSON."""

    position: int
    type: str
    field: str
    recorded: str
    decided: str


class Step(NamedTuple):
    """One command: the events that it led to, and where deciding it anew led elsewhere.

    `command` is "nothing" where the events do not hold all that was asked, so that nothing was decided anew.
    """

    command: str
    events: tuple[Event, ...]
    differences: tuple[Difference, ...]


def replay(bundle: Bundle) -> list[Step]:
    """Every command in the bundle, in order. Raises `Unreadable` for events that cannot be read."""
    room = {each.position: each for each in bundle.room}
    quota = {each.position: each.quota for each in bundle.quota}
    budget = {each.position: each for each in bundle.budget}
    return list(Replay(quota, room, budget).steps(events_of(bundle.events)))


def carried_out(event: Event) -> tuple[UUID, datetime]:
    """The same for all events of one command. One that was refused may have been sent again later."""
    return event.command_id, event.recorded_at


class Replay:
    """`quota` and `budget` are what they were before some of the events, by position; before others the quota
    is folded from the events, and there was no budget."""

    def __init__(
        self,
        quota: Mapping[int, Quota] | None = None,
        room: Mapping[int, RoomAt] | None = None,
        budget: Mapping[int, BudgetAt] | None = None,
    ) -> None:
        self._budget = budget or {}
        self._quota = quota or {}
        self._room = room or {}
        self._rows = Rows(_FOLDS)
        self._epochs: dict[str, int] = {}
        self._nodes: dict[str, SupervisorStarted] = {}
        self._limit: BudgetSet | None = None

    def steps(self, events: Sequence[Event]) -> Iterator[Step]:
        """One after the other. After events that no ledger could hold there is nothing to go by."""
        for _, group in groupby(events, carried_out):
            of_command = _without_warnings(tuple(group))
            if not of_command:
                continue
            try:
                step = self._step(of_command)
                for event in of_command:
                    self._fold(event)
            except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
                first = of_command[0]
                said = _json(f"no such thing can have happened: {error}")
                yield Step(
                    NOTHING,
                    of_command,
                    (Difference(first.position, first.type, "event", _json(first.type), said),),
                )
                return
            yield step

    def _step(self, events: tuple[Event, ...]) -> Step:
        first = events[0]
        self._know(first)
        before = Before(
            job=self._row("status", None if first.job is None else str(first.job)),
            project=self._row("projects", first.project),
            epoch=self._epoch(first),
        )
        command = recall(events, before)
        if command is None:
            return Step(NOTHING, events, ())
        try:
            decided = decide(command, self._context(command, first, before))
        except Rejected as refusal:
            decided = [each for each in refusal.decisions if isinstance(each, Decision)]
            if decided and isinstance(first.body, SubmissionRefused):
                return Step(type(command).__name__, events, tuple(_compared(events, decided)))
            said = f"refused: {refusal.message}"
            refused = Difference(first.position, first.type, "event", _json(first.type), _json(said))
            return Step(type(command).__name__, events, (refused,))
        found = [*_compared(events, decided), *self._other_limits(first)]
        found += [each for event in events for each in self._no_room(event)]
        return Step(type(command).__name__, events, tuple(found))

    def _context(self, command: cmd.Command, first: Event, before: Before) -> Context:
        quota = self._quota.get(first.position)
        return Context(
            now=first.recorded_at,
            job=before.job,
            quota=quota if quota is not None else self._row("quota", first.project),
            project=before.project,
            token=self._row("tokens", getattr(command, "token_id", None)),
            prices=self._row("prices", prices.KEY) or Context(now=first.recorded_at).prices,
            epoch=before.epoch,
            budget=self._stood(first),
            refusals=self._row("refusals", first.project) or Context(now=first.recorded_at).refusals,
            bill=self._row("billing", None if first.job is None else f"{first.job}/{first.run}"),
            webhooks=self._row("webhooks", first.project),
            position=first.position - 1,
        )

    def _stood(self, event: Event) -> Standing | None:
        """At the budget; one that was used up also where only the event says so."""
        known = self._budget.get(event.position)
        if known is None:
            return _used_up(event)
        budget = Budget(amount=known.amount, currency=known.currency, warn_at=())
        month = Month.of(event.recorded_at)
        return Standing(project=event.project or "", budget=budget, month=month, spent=known.spent)

    def _epoch(self, event: Event) -> int:
        """Of the lease in force. Where no supervisor of the engine is among the events, what it said."""
        job = self._row("status", None if event.job is None else str(event.job))
        engine = getattr(event.body, "engine", None) or (job.engine if job is not None else None)
        said: int = getattr(event.body, "epoch", 0)
        if isinstance(event.body, SupervisorStarted):
            return said  # the lease is taken before it is told
        return self._epochs.get(engine or "", said)

    def _other_limits(self, event: Event) -> Iterator[Difference]:
        """What the file says of quota and budget must agree with the events that set them."""
        stood, limit = self._budget.get(event.position), self._limit
        if stood is not None and limit is not None:
            for name in ("amount", "currency"):
                if getattr(stood, name) != getattr(limit, name):
                    values = _json(getattr(stood, name)), _json(getattr(limit, name))
                    yield Difference(event.position, event.type, f"budget.{name}", *values)
        said, folded = self._quota.get(event.position), self._row("quota", event.project)
        if said is None or folded is None:
            return
        for name in ("cpu", "gpu"):
            if getattr(said, name) != getattr(folded, name):
                values = _json(getattr(said, name)), _json(getattr(folded, name))
                yield Difference(event.position, event.type, f"quota.{name}", *values)

    def _no_room(self, event: Event) -> Iterator[Difference]:
        """A placement where the node had too little left, by what it had and what others held of it."""
        held, body = self._room.get(event.position), event.body
        node = self._nodes.get(held.engine) if held is not None else None
        job = self._row("status", str(event.job))
        if held is None or node is None or job is None or not isinstance(body, RunPlaced) or not node.cpus:
            return
        needs = job.spec.resources
        for name in ("cpus", "memory", "gpus"):
            free = getattr(node, name) - getattr(held, name)
            if getattr(needs, name) > free:
                yield Difference(
                    event.position, event.type, f"room.{name}", str(getattr(needs, name)), str(free)
                )

    def _row(self, fold: str, key: str | None) -> Any:
        return self._rows.get(fold, key) if key is not None and (fold, key) in self._rows else None

    def _know(self, event: Event) -> None:
        for fold, key in self._rows.missing(self._rows.keys_of(event)):
            self._rows.put(fold, key, None)

    def _fold(self, event: Event) -> None:
        self._know(event)
        self._rows.fold(event)
        if isinstance(event.body, BudgetSet):
            self._limit = event.body
        if isinstance(event.body, SupervisorStarted):
            self._epochs[event.body.engine] = event.body.epoch
            self._nodes[event.body.engine] = event.body


def _without_warnings(events: tuple[Event, ...]) -> tuple[Event, ...]:
    """What the command decided. That a budget's share was reached is found by the ledger afterwards."""
    return tuple(event for event in events if not isinstance(event.body, BudgetWarned))


def _used_up(event: Event) -> Standing | None:
    """A budget that was used up, where the event says so: what others had spent by then is not at hand."""
    if not (isinstance(event.body, RunFinalized) and event.body.info.code == BUDGET_SPENT.code):
        return None
    none = Budget(amount=ZERO, currency="", warn_at=())
    return Standing(project=event.project or "", budget=none, month=Month.of(event.recorded_at), spent=ZERO)


def _compared(events: Sequence[Event], decided: Sequence[Decision]) -> Iterator[Difference]:
    for event, decision in zip(events, decided, strict=False):
        kind = type(decision.body).__name__
        if kind != event.type:
            yield Difference(event.position, event.type, "event", _json(event.type), _json(kind))
            continue
        recorded, now = _plain(event), _plain(decision)
        if recorded != now:
            for field, was, is_now in _unequal("", recorded, now):
                yield Difference(event.position, event.type, field, was, is_now)
    for event in events[len(decided) :]:
        yield Difference(event.position, event.type, "event", _json(event.type), NOTHING)
    for decision in decided[len(events) :]:
        last = events[-1]
        yield Difference(last.position, last.type, "then", NOTHING, _json(type(decision.body).__name__))


def _plain(of: Event | Decision) -> Any:
    """All that a decision fixes of an event, in the canonical form that the ledger's hash covers."""
    return {
        "data": msgspec.json.decode(encode_body(of.body)),
        "occurredAt": of.occurred_at.isoformat(),
        "project": of.project,
        "job": None if of.job is None else str(of.job),
        "run": of.run,
    }


def _unequal(path: str, recorded: Any, decided: Any) -> Iterator[tuple[str, str, str]]:
    """The innermost fields that differ."""
    if isinstance(recorded, dict) and isinstance(decided, dict):
        for name in sorted(recorded.keys() | decided.keys()):
            where = f"{path}.{name}" if path else name
            yield from _unequal(where, recorded.get(name, _ABSENT), decided.get(name, _ABSENT))
    elif recorded != decided or type(recorded) is not type(decided):
        yield path, _json(recorded), _json(decided)


_ABSENT: Any = msgspec.UNSET


def _json(value: Any) -> str:
    return NOTHING if value is _ABSENT else msgspec.json.encode(value).decode()

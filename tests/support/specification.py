"""given(*events).when(command).then(*bodies), over the real decide and the real folds, without any mock."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from projections.rows import Rows
from service.domain import commands as cmd
from service.domain import events as ev
from service.domain.budget import Spend
from service.domain.context import Context, Decision
from service.domain.decide import decide
from service.domain.events import Event
from service.domain.job import Job
from service.domain.quota import Quota
from service.errors import Rejected
from tests.support.jobs import EPOCH, JOB, MINUTE, PROJECT, T0, prices_set, project_created

Given = ev.Body | tuple[datetime, ev.Body]


def happened(position: int, body: ev.Body, at: datetime, run: int | None, recorded: datetime) -> Event:
    """A body as an event of this test's one project and job."""
    of_job = type(body) in ev.JOB_BODIES
    return Event(
        position=position,
        project=None if isinstance(body, ev.PricesSet) else PROJECT,
        job=JOB if of_job else None,
        run=run if of_job else None,
        body=body,
        occurred_at=at,
        recorded_at=recorded,
        actor="test",
        command_id=UUID(int=position),
    )


def folded(events: list[Event]) -> Rows:
    """Every read model after these events."""
    rows = Rows()
    for event in events:
        for fold, key in rows.missing(rows.keys_of(event)):
            rows.put(fold, key, None)
        rows.fold(event)
    return rows


@dataclass(frozen=True)
class Specification:
    """What has happened so far, one minute after the other from T0 unless a time is given."""

    events: list[Event]
    epoch: int | None = EPOCH

    def under_epoch(self, epoch: int | None) -> Specification:
        return replace(self, epoch=epoch)

    @property
    def next_at(self) -> datetime:
        return max([T0, *(event.recorded_at for event in self.events)]) + MINUTE

    @property
    def job(self) -> Job | None:
        found: Job | None = _row(folded(self.events), "status", str(JOB))
        return found

    @property
    def run(self) -> int:
        return max(event.run or 0 for event in self.events)

    def when(self, command: cmd.Command, *, at: datetime | None = None) -> Outcome:
        """Decide one command; `at` is the database's clock, one minute later unless given."""
        now = at or self.next_at
        rows = folded(self.events)
        spend: Spend | None = _row(rows, "spend", command.project or "")
        context = Context(
            now=now,
            job=_row(rows, "status", str(getattr(command, "job", ""))),
            quota=_row(rows, "quota", command.project or ""),
            project=_row(rows, "projects", command.project or ""),
            token=_row(rows, "tokens", getattr(command, "token_id", "")),
            prices=_row(rows, "prices", "book") or Context(now=now).prices,
            epoch=self.epoch,
            budget=spend.standing(now) if spend else None,
            bill=_row(rows, "billing", f"{getattr(command, 'job', None)}/{getattr(command, 'run', None)}"),
            refusals=_row(rows, "refusals", command.project or "") or Context(now=now).refusals,
        )
        try:
            return Outcome(self, now, decisions=decide(command, context))
        except Rejected as refusal:
            return Outcome(self, now, refusal=refusal)


@dataclass(frozen=True)
class Outcome:
    before: Specification
    now: datetime
    decisions: list[Decision] = field(default_factory=list)
    refusal: Rejected | None = None

    def then(self, *bodies: ev.Body) -> Specification:
        """Exactly these bodies came out; what follows is given after them."""
        if self.refusal is not None:
            raise AssertionError(f"refused: {self.refusal.message}") from self.refusal
        assert [decision.body for decision in self.decisions] == list(bodies)
        return self.after

    def refused(self, kind: type[Rejected], text: str = "") -> None:
        """Refused with exactly this kind of error, whose message holds `text`."""
        assert self.refusal is not None, f"not refused: {[d.body for d in self.decisions]}"
        assert type(self.refusal) is kind
        assert text in self.refusal.message

    def occurred(self, *times: datetime) -> None:
        assert [decision.occurred_at for decision in self.decisions] == list(times)

    @property
    def after(self) -> Specification:
        position = len(self.before.events)
        new = []
        for decision in self.decisions:
            position += 1
            new.append(
                Event(
                    position=position,
                    project=decision.project,
                    job=decision.job,
                    run=decision.run,
                    body=decision.body,
                    occurred_at=decision.occurred_at,
                    recorded_at=self.now,
                    actor="test",
                    command_id=UUID(int=position),
                )
            )
        return replace(self.before, events=[*self.before.events, *new])

    @property
    def job(self) -> Job:
        """The job after what came out."""
        found = self.after.job
        assert found is not None
        return found

    @property
    def quota(self) -> Quota:
        found: Quota | None = _row(folded(self.after.events), "quota", PROJECT)
        assert found is not None
        return found


def given(*bodies: Given, cpu: int = 10, gpu: int = 4) -> Specification:
    """A project with a quota and prices, and then these bodies; a new run begins with each RunQueued."""
    return bare(project_created(cpu, gpu), prices_set(), *bodies)


def bare(*bodies: Given) -> Specification:
    """Only these bodies: no project and no prices unless they are among them."""
    events: list[Event] = []
    run = 1
    clock = T0 - 2 * MINUTE
    for position, entry in enumerate(bodies, start=1):
        clock += MINUTE
        at, body = entry if isinstance(entry, tuple) else (clock, entry)
        clock = max(clock, at)
        run += isinstance(body, ev.RunQueued)
        events.append(happened(position, body, at, run, clock))
    return Specification(events)


def _row(rows: Rows, fold: str, key: str) -> Any:
    return rows.get(fold, key) if (fold, key) in rows else None

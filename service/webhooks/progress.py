"""How far one webhook has come: what is remembered of it beside the ledger.

What is wanted at or below `position` was delivered, except of the lines that are behind. A line is one job's
events, or those of no job (""); one that is remembered was delivered up to its own position, which can also
lie beyond, when a process ended in the middle of a round.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from service.domain.events import Event
from service.domain.webhooks import Webhook
from service.webhooks.duty import Duty
from service.webhooks.send import Answer
from sql import queries

_SQL = queries("webhooks")

#: So many attempts are kept for people to look at, and a few more.
KEPT_ATTEMPTS = 500
_FORGET_EVERY = 100


@dataclass
class Trying:
    """Failures in a row, since when, and when the next attempt is due (None: now)."""

    attempts: int = 0
    failing_since: datetime | None = None
    next_at: datetime | None = None

    def failed(self, at: datetime, next_at: datetime | None) -> None:
        self.attempts += 1
        self.failing_since = self.failing_since or at
        self.next_at = next_at

    def due(self, now: datetime) -> bool:
        return self.next_at is None or self.next_at <= now


@dataclass
class Line:
    """What of a line was delivered, and how its next event fares."""

    position: int
    trying: Trying = field(default_factory=Trying)


def line_of(event: Event) -> str:
    return "" if event.job is None else str(event.job)


class Progress:
    """One webhook's, in memory, and written over the duty's connection. `load` makes it."""

    def __init__(self, duty: Duty, hook: Webhook) -> None:
        self._duty = duty
        self._id = hook.id
        self._start, self._touched = hook.start.by, hook.touched
        self._since_forgotten = 0
        self.position = hook.start.after
        self.whole = Trying()
        self.lines: dict[str, Line] = {}

    @classmethod
    async def load(cls, duty: Duty, hook: Webhook) -> Progress:
        """As it was left, or from where the webhook begins."""
        made = cls(duty, hook)
        await duty.execute((_SQL.begin, hook.id, hook.start.by, hook.touched, hook.start.after))
        (cursor,) = await duty.fetch(_SQL.cursor, hook.id)
        made._start, made._touched, made.position = cursor["start"], cursor["touched"], cursor["position"]
        made.whole = _trying(cursor)
        for record in await duty.fetch(_SQL.lines, hook.id):
            made.lines[record["line"]] = Line(record["position"], _trying(record))
        await made.heed(hook)
        return made

    async def heed(self, hook: Webhook) -> None:
        """Begin anew where an order says so; and after any order, try at once."""
        if (hook.start.by, hook.touched) == (self._start, self._touched):
            return
        if hook.start.by != self._start:
            self.position = hook.start.after
            self.lines = {}
        self._start, self._touched = hook.start.by, hook.touched
        self.whole = Trying()
        for line in self.lines.values():
            line.trying = Trying()
        await self.save()

    @property
    def behind(self) -> dict[str, Line]:
        """The lines that were not delivered as far as the cursor, the oldest first."""
        found = [each for each in self.lines.items() if each[1].position < self.position]
        return dict(sorted(found, key=lambda each: each[1].position))

    @property
    def failing(self) -> dict[str, Line]:
        return {name: line for name, line in self.lines.items() if line.trying.attempts}

    def delivered_to(self, name: str) -> int:
        """The position up to which a line was delivered."""
        line = self.lines.get(name)
        return self.position if line is None else line.position

    async def attempted(self, event: Event, at: datetime, answer: Answer, line: Line, attempt: int) -> None:
        """Remember an attempt, and where its line stands after it."""
        name, trying = line_of(event), line.trying
        self.lines[name] = line
        await self._duty.execute(
            (_SQL.put_line, self._id, name, line.position, *_columns(trying)),
            (
                *(_SQL.attempted, self._id, event.position, name, attempt, at),
                *(answer.took_ms, answer.status, answer.error, trying.next_at),
            ),
        )
        self._since_forgotten += 1

    async def save(self) -> None:
        """Remember all of it, as it is now."""
        lines = list(self.lines.items())
        statements: list[tuple[Any, ...]] = [
            (
                *(_SQL.move, self._id, self._start, self._touched, self.position),
                *_columns(self.whole),
            ),
            (_SQL.drop_lines, self._id, [name for name, _ in lines]),
        ]
        if lines:
            tried = [_columns(line.trying) for _, line in lines]
            columns = [list(column) for column in zip(*tried, strict=True)]
            positions = [line.position for _, line in lines]
            statements.append((_SQL.put_lines, self._id, [name for name, _ in lines], positions, *columns))
        if self._since_forgotten >= _FORGET_EVERY:
            statements.append((_SQL.forget_attempts, self._id, KEPT_ATTEMPTS))
            self._since_forgotten = 0
        await self._duty.execute(*statements)


def _trying(record: Any) -> Trying:
    return Trying(record["attempts"], record["failing_since"], record["next_at"])


def _columns(trying: Trying) -> tuple[int, datetime | None, datetime | None]:
    return trying.attempts, trying.failing_since, trying.next_at

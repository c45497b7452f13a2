"""What may be asked of webhooks: those of a project, how far each has come, its last attempts."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from projections.catalogue import FOLDS
from service.domain.webhooks import Webhook, Webhooks
from service.ledger.database import translated
from sql import queries

_SQL = queries("webhooks")


class Standing(NamedTuple):
    """How far a webhook has come. `failing_since` None: nothing fails; `failing_lines` counts jobs."""

    position: int
    held_after: int | None = None
    failing_lines: int = 0
    failing_since: datetime | None = None
    next_at: datetime | None = None


class Attempt(NamedTuple):
    """One attempt; `error` is None when the event was taken, `line` the job's id or ""."""

    position: int
    line: str
    attempt: int
    at: datetime
    took_ms: int
    status: int | None
    error: str | None
    next_at: datetime | None


class Counts(NamedTuple):
    """Of all projects: webhooks, those paused, and those that fail and go on trying."""

    webhooks: int
    paused: int
    failing: int


async def of_project(source: Any, project: str) -> dict[str, Webhook]:
    with translated():
        row = await source.fetchval(_SQL.of_project, project)
    if row is None:
        return {}
    found: Webhooks = FOLDS["webhooks"].decoder.decode(row)
    return found.hooks


async def standing(source: Any, hooks: list[Webhook]) -> dict[str, Standing]:
    """By id. Of one that nobody has looked at yet: where it will begin."""
    with translated():
        records = await source.fetch(_SQL.standing, [hook.id for hook in hooks])
    known = {record["webhook"]: record for record in records}
    return {hook.id: _standing(hook, known.get(hook.id)) for hook in hooks}


def _standing(hook: Webhook, record: Any) -> Standing:
    if record is None or record["start"] != hook.start.by:
        return Standing(hook.start.after)
    since = min(filter(None, (record["failing_since"], record["line_failing_since"])), default=None)
    next_at = record["next_at"] or record["line_next_at"]
    return Standing(record["position"], record["held_after"], record["failing_lines"], since, next_at)


async def attempts(source: Any, webhook_id: str, most: int, offset: int) -> tuple[list[Attempt], int]:
    """The last ones, newest first, and how many are kept in all."""
    with translated():
        total = await source.fetchval(_SQL.count_attempts, webhook_id)
        records = await source.fetch(_SQL.attempts, webhook_id, most, offset)
    return [Attempt(*record) for record in records], total


async def counts(source: Any) -> Counts:
    with translated():
        return Counts(*await source.fetchrow(_SQL.counts))

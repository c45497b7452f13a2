"""What the statement that appends is given, made by hand, so that each part of it can be wrong."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

T = datetime(2026, 1, 1, tzinfo=UTC)
_EVENT = (
    *("position", "project", "job", "run", "type", "data", "occurred_at"),
    *("actor", "command_id", "request_id", "hash", "client_address"),
)
Column = tuple[int, int]
#: Where each column stands: in which argument of `append`, and where in it.
EVENT: dict[str, Column] = {name: (0, place) for place, name in enumerate(_EVENT)}
COMMAND, DIGEST, FIRST, LAST = ((1, place) for place in range(4))
FOLD, KEY, AT, ROW = ((3, place) for place in range(4))


def appended(position: int, command: UUID | None = None, *, last: int | None = None) -> list[Any]:
    """One event or, with `last`, several, of one command, and a row of a fold that may be there."""
    made, end = command or uuid4(), last or position
    body = ("QuotaSet", '{"cpu":1,"gpu":0}', T, "test", made, None, bytes(32), None)
    return [
        [(each, "p", None, None, *body) for each in range(position, end + 1)],
        [(made, b"digest", position, end)],
        [],
        [("quota", "p", end, f'{{"at":{end}}}')],
        *(end, bytes([end]) * 32, T),
    ]


def changed(args: list[Any], column: Column, value: Any) -> list[Any]:
    """With another value in the first place of a column."""
    after, (part, place) = list(args), column
    first, *rest = after[part]
    after[part] = [(*first[:place], value, *first[place + 1 :]), *rest]
    return after


def added(args: list[Any], row: dict[Column, Any]) -> list[Any]:
    """With one more row, of the columns named."""
    after, part = list(args), min(row)[0]
    after[part] = [*after[part], tuple(row[column] for column in sorted(row))]
    return after

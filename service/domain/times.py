"""Times at the ends of the calendar, which a client may name as well as any other. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

FIRST = datetime.min.replace(tzinfo=UTC)
LAST = datetime.max.replace(tzinfo=UTC)


def in_utc(time: datetime) -> datetime:
    """The same time in UTC, or the end of the calendar that it lies beyond."""
    try:
        return time.astimezone(UTC)
    except OverflowError:
        return FIRST if time.year == 1 else LAST


def with_zone(text: str) -> str | None:
    """How a time that was written without its zone is written in UTC, in words for who wrote it; None for a
    text that is no such time."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if at.tzinfo is not None else f"say which zone it is in, such as {at.isoformat()}Z"

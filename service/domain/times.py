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

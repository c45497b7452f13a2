"""How long is waited after a failure. Source of the table: Standard Webhooks, "Deliverability"."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

MINUTE, HOUR = 60.0, 3600.0
#: Seconds after the first failure, the second, and so on: three days and three hours and a half in all.
TABLE = (5.0, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR)
MOST_ASKED_S = 24 * HOUR
JITTER = 0.1


@dataclass(frozen=True)
class Backoff:
    """`draw` answers 0 to 1, for up to `JITTER` more: endpoints that failed together come back apart."""

    table: tuple[float, ...] = TABLE
    draw: Callable[[], float] = random.random

    def after(self, failures: int, asked_s: float | None = None) -> timedelta | None:
        """The pause after so many failures in a row (1 and more); None when it is time to give up.

        `asked_s`: what the endpoint asked for; it lengthens a pause, within bounds.
        """
        if failures > len(self.table):
            return None
        pause_s = self.table[failures - 1] * (1 + JITTER * self.draw())
        return timedelta(seconds=max(pause_s, min(asked_s or 0.0, MOST_ASKED_S)))


def retry_after(text: str | None, now: datetime) -> float | None:
    """Seconds that a `Retry-After` asks for, from its number or date; None for none, or nonsense."""
    if text is None or len(text) > 64:
        return None
    if text.strip().isascii() and text.strip().isdigit():
        return float(text.strip())
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # the latter for numbers that no calendar has
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - now).total_seconds())

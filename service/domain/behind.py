"""Whether the database's clock is behind the ledger's last event: it was ahead, and was put right. Pure.

No event is recorded before another, so all times of the ledger stand still until the clock has caught up:
nothing is billed of what runs meanwhile, and the timeout of what begins counts from then.
"""

from __future__ import annotations

from service.domain.events import Info

CLOCK_BEHIND = "clock-behind"
#: Clocks are put right by a little all the time: so many seconds say nothing.
MOST_BEHIND_S = 5.0


def judged(behind_s: float) -> Info | None:
    """Why no run may begin, or None. Only what stays the same while it lasts."""
    if behind_s <= MOST_BEHIND_S:
        return None
    return Info(
        CLOCK_BEHIND,
        "The database's clock is behind the ledger's last event: it was ahead, and was put right. "
        "No run begins until it has caught up, as no time would be counted.",
    )

"""An independent calculator of bills, from the seed's words and from nothing of the product's.

"Only jobs that reach the RUNNING status are billed. Billing starts with the INITIALIZING step and ends when
the FINALIZING step starts. Each commenced minute is billed completely." Times are whole microseconds; what
counts is found by walking through a run's moments one after the other; amounts are whole numbers and rests.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any, NamedTuple

MINUTE_US = 60_000_000
_MICROSECOND = timedelta(microseconds=1)

#: policy -> the phases that are billed: while it is prepared, while it is started, while it runs, until the
#: FINALIZING step starts.
BILLED = {
    "2021-05": ("INITIALIZING", "PENDING", "RUNNING", "STOPPING"),
    "2023-12": ("RUNNING",),
    "2026-01": ("PENDING", "RUNNING"),
}
_OVER = ("FINALIZING", "DONE", "FAILED", "INTERRUPTED", "ERROR")


class Result(NamedTuple):
    """Begun minutes, the whole amount, and whether it is given back, in millionths of the currency."""

    minutes: int
    amount: int
    credited: bool


class Facts:
    """What is noted of one run while its events pass by."""

    def __init__(self) -> None:
        #: (when, phase): each phase begins where it stands and lasts until the next.
        self.phases: list[tuple[int, str]] = []
        self.gaps: list[tuple[int, int]] = []
        self.units = 0
        self.price = Decimal(0)
        self.flavor = ""
        self.placed_at = 0
        self.ran = self.over = self.credited = False


def microseconds(at: datetime, beginning: datetime) -> int:
    return (at - beginning) // _MICROSECOND


def note(facts: Facts, body: Any, at: int, beginning: datetime) -> None:
    """One event of a run, by the name of its type and the states that it moves between."""
    name = type(body).__name__
    if name == "RunAdopted":
        facts.gaps.append((microseconds(body.absent_since, beginning), at))
        return
    if name == "RunErrored":
        facts.credited = True
    before = None if name != "RunExited" else body.ended_at
    if before is not None:
        at = microseconds(before, beginning)
        facts.phases = [each for each in facts.phases if each[1] != "STOPPING"]
    by_itself = name == "RunExited" and (body.source == "RUNNING" or before is not None)
    if by_itself and body.exit_code == 137 and not body.oom_killed:
        since = body.engine_away_since
        gone = since is not None and microseconds(since, beginning) <= at
        facts.credited = gone or any(start <= at <= end for start, end in facts.gaps)
    if by_itself and (body.unknown or (body.stopped_outside and not body.oom_killed)):
        facts.credited = True
    if name == "RunPlaced":
        facts.units, facts.price, facts.flavor = body.units, body.hourly_price, body.flavor
        facts.placed_at = at
    target = str(body.target)
    if target == "RUNNING":
        facts.ran = True
    if facts.over or target in ("QUEUED", str(body.source)):
        return  # an order to interrupt what ends already moves nothing, and may be dated after the end
    if target in _OVER:
        facts.over = True
        facts.phases.append((at, "over"))
    else:
        phase = "STOPPING" if target in ("INTERRUPTING", "TIMEOUT") else target
        facts.phases.append((at, phase))


def minutes(facts: Facts, policy: str) -> int:
    """Commenced minutes. While nobody of ours is there, only the time in which it runs is worth its price."""
    whole, begun = divmod(counted(facts, policy), MINUTE_US)
    return whole + 1 if begun else whole


def counted(facts: Facts, policy: str) -> int:
    """What the minutes are of, in microseconds."""
    if not facts.ran or not facts.over:
        return 0
    total = 0
    for (start, phase), (end, _) in pairwise(facts.phases):
        if phase not in BILLED[policy] or end <= start:
            continue
        total += end - start
        if facts.gaps and phase != "RUNNING":
            total -= _covered(start, end, facts.gaps)
    return total


def _covered(start: int, end: int, gaps: list[tuple[int, int]]) -> int:
    """How much of a stretch lies in at least one of the gaps: each piece between two moments, once."""
    moments = {start, end}
    for gap in gaps:
        moments.update(at for at in gap if start < at < end)
    ordered = sorted(moments)
    return sum(
        later - at
        for at, later in pairwise(ordered)
        if any(begin <= at and later <= stop for begin, stop in gaps)
    )


def millionths(begun: int, units: int, price: Decimal) -> int:
    """minutes x units x price an hour / 60, in millionths, half to even."""
    over, under = price.as_integer_ratio()
    whole, rest = divmod(over * units * begun * 1_000_000, under * 60)
    twice = 2 * rest - under * 60
    return whole + (twice > 0 or (twice == 0 and whole % 2 == 1))


def result(facts: Facts, policy: str, price: Decimal | None = None) -> Result:
    begun = minutes(facts, policy)
    amount = millionths(begun, facts.units, facts.price if price is None else price)
    return Result(begun, amount, facts.credited)

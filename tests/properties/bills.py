"""A second opinion on bills: from the raw events, by sweeping over every moment at which anything changed."""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from itertools import pairwise
from typing import Any

from msgspec.structs import replace

from service.domain import events as ev
from service.domain.events import Event
from service.domain.states import State

#: policy -> the phases it bills: before PENDING, before RUNNING, RUNNING, from then to FINALIZING.
PHASES = {"2021-05": "ipra", "2023-12": "r", "2026-01": "pr"}
ENDS = {"DONE", "FAILED", "INTERRUPTED", "ERROR"}


def minutes_of(events: list[Event], policy: str) -> int:
    """Begun minutes of one run, whose events these are."""
    spans = _phases(events)
    if spans is None:
        return 0
    gaps = [(e.body.absent_since, e.occurred_at) for e in events if isinstance(e.body, ev.RunAdopted)]
    moments = sorted({at for span in spans for at in span[1:]} | {at for gap in gaps for at in gap})
    seconds = Decimal(0)
    for start, end in pairwise(moments):
        phase = next((name for name, begin, stop in spans if begin <= start and end <= stop), None)
        absent = any(begin <= start and end <= stop for begin, stop in gaps)
        if phase is not None and phase in PHASES[policy] and (phase == "r" or not absent):
            lasted = end - start
            seconds += lasted.days * 86_400 + lasted.seconds + Decimal(lasted.microseconds) / 1_000_000
    return math.ceil(seconds / 60)


def _phases(events: list[Event]) -> list[tuple[str, datetime, datetime]] | None:
    """What the run was in, from when to when; None when nothing is billed."""
    reached: dict[str, datetime] = {}
    for event in events:
        body: Any = event.body
        if not isinstance(body, ev.Move) or body.source == body.target:
            continue
        reached.setdefault(str(body.target), event.occurred_at)
        if body.source == "RUNNING":
            reached["left"] = event.occurred_at
        if isinstance(body, ev.RunExited) and body.ended_at is not None:
            reached["left"] = reached["FINALIZING"] = body.ended_at
    over = reached.get("FINALIZING") or next((reached[end] for end in ENDS if end in reached), None)
    if "RUNNING" not in reached or over is None:
        return None
    return [
        ("i", reached["INITIALIZING"], reached["PENDING"]),
        ("p", reached["PENDING"], reached["RUNNING"]),
        ("r", reached["RUNNING"], reached["left"]),
        ("a", reached["left"], over),
    ]


def _lost(events: list[Event]) -> bool:
    """Whether the process was killed by nobody's order in a time of which a supervisor had said before that
    nobody had been there."""
    away: list[tuple[datetime, datetime]] = []
    for event in events:
        body: Any = event.body
        if isinstance(body, ev.RunAdopted):
            away.append((body.absent_since, event.occurred_at))
        if not isinstance(body, ev.RunExited):
            continue
        at = body.ended_at or event.occurred_at
        unasked = body.source == "RUNNING" or body.ended_at is not None
        if unasked:
            told = body.stopped_outside and not body.oom_killed
            if told or body.unknown:
                return True
        if (body.exit_code, body.oom_killed) == (137, False):
            alone = any(begin <= at <= end for begin, end in away)
            gone = body.engine_away_since is not None and body.engine_away_since <= at
            return (alone or gone) and unasked
    return False


def amount_of(events: list[Event], policy: str) -> Decimal:
    """The price of one run: nothing when our fault ended it."""
    bodies = [event.body for event in events]
    if any(isinstance(body, ev.RunErrored) for body in bodies) or _lost(events):
        return Decimal(0)
    placed = next((body for body in bodies if isinstance(body, ev.RunPlaced)), None)
    if placed is None:
        return Decimal(0)
    exact = Decimal(minutes_of(events, policy)) * placed.units * placed.hourly_price / Decimal(60)
    return exact.quantize(Decimal("0.000001"), ROUND_HALF_EVEN)


def spent_in(month: str, events: list[Event], now: datetime) -> Decimal:
    """What one project has spent in a month (`2026-11`), whose events these are, up to now: each run in the
    month in which it left what is billed; one that has not, as if it left that now. What our fault ended
    after that is given back in the month of the fault."""
    runs: dict[Any, list[Event]] = defaultdict(list)
    for event in events:
        if event.job is not None and event.run is not None:
            runs[event.job, event.run].append(event)
    total = Decimal(0)
    for of_run in runs.values():
        left = [e for e in of_run if str(getattr(e.body, "target", "")) in {"FINALIZING", *ENDS}]
        if not left:
            state = [e.body.target for e in of_run if isinstance(e.body, ev.Move)][-1]
            info = ev.Info("now", "As if it were over now.")
            body = ev.RunAborted(
                source=state, target=State.FINALIZING, kind="cpu", units=1, outcome=State.DONE, info=info
            )
            left = [replace(of_run[-1], body=body, occurred_at=now)]
            of_run = [*of_run, *left]
        by_us = [e for e in of_run if isinstance(e.body, ev.RunErrored) and e is not left[0]]
        whole = amount_of([e for e in of_run if e not in by_us], "2021-05")
        over = getattr(left[0].body, "ended_at", None) or left[0].occurred_at
        total += whole * (f"{over:%Y-%m}" == month)
        total -= whole * any(f"{e.occurred_at:%Y-%m}" == month for e in by_us)
    return total

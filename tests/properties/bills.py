"""A second opinion on bills: from the raw events, by sweeping over every moment at which anything changed."""

from __future__ import annotations

import math
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from itertools import pairwise
from typing import Any

from service.domain import events as ev
from service.domain.events import Event

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
    over = reached.get("FINALIZING") or next((reached[end] for end in ENDS if end in reached), None)
    if "RUNNING" not in reached or over is None:
        return None
    return [
        ("i", reached["INITIALIZING"], reached["PENDING"]),
        ("p", reached["PENDING"], reached["RUNNING"]),
        ("r", reached["RUNNING"], reached["left"]),
        ("a", reached["left"], over),
    ]


def amount_of(events: list[Event], policy: str) -> Decimal:
    """The price of one run: nothing when our fault ended it."""
    bodies = [event.body for event in events]
    if any(isinstance(body, ev.RunErrored) for body in bodies):
        return Decimal(0)
    placed = next((body for body in bodies if isinstance(body, ev.RunPlaced)), None)
    if placed is None:
        return Decimal(0)
    exact = Decimal(minutes_of(events, policy)) * placed.units * placed.hourly_price / Decimal(60)
    return exact.quantize(Decimal("0.000001"), ROUND_HALF_EVEN)

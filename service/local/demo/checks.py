"""What must be true of a demo that went right. Pure; every answer is a list of what is wrong, in words."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from service.domain.pricing import amount

WANTED_STATES = ("QUEUED", "INITIALIZING", "PENDING", "RUNNING", "FINALIZING", "DONE")
LEAST_ACCURACY = 0.90
_MINUTE = timedelta(minutes=1)


def states(found: Sequence[str]) -> list[str]:
    """The job must pass through every state of a good run, in order, and end as DONE."""
    rest = iter(found)
    missing = [state for state in WANTED_STATES if state not in rest]
    if missing:
        return [f"the states were {', '.join(found)}: {missing[0]} is missing or out of order"]
    return [] if found[-1] == "DONE" else [f"the job ended as {found[-1]}"]


def accuracy(found: float, told: float) -> list[str]:
    """Recomputed from the model that came back, it must be what the job measured, and good."""
    wrong = [] if abs(found - told) < 1e-9 else [f"the job told an accuracy of {told}, its model has {found}"]
    return wrong if found >= LEAST_ACCURACY else [*wrong, f"the accuracy is {found}, below {LEAST_ACCURACY}"]


def bill(line: Any, history: Sequence[Any]) -> list[str]:
    """The minutes must follow from the job's own history, and the amount from the minutes.

    By policy 2021-05: from INITIALIZING to FINALIZING, begun minutes whole.
    """
    at = {visit["state"]: datetime.fromisoformat(visit["date"]) for visit in history}
    minutes = -((at["FINALIZING"] - at["INITIALIZING"]) // -_MINUTE)
    wrong = []
    if line["minutes"] != minutes or minutes < 1:
        wrong.append(f"{line['minutes']} minutes are billed, the history says {minutes}")
    due = amount(line["minutes"], line["units"], Decimal(line["hourlyPrice"]))
    if Decimal(line["amount"]) != due:
        wrong.append(f"{line['amount']} is billed, {line['minutes']} minutes cost {due}")
    return wrong


def hashes(told: dict[str, str], found: dict[str, str]) -> list[str]:
    """Every file must come back as the job wrote it."""
    wrong = [f"{name} did not come back" for name in told if name not in found]
    return wrong + [f"{name} came back changed" for name in told if found.get(name, told[name]) != told[name]]

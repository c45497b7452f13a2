"""`jobyard job why` in words."""

from __future__ import annotations

from typing import Any

import pytest

from service.cli.job_why import lasted, lines

INFO = {"code": "waiting-for-gpu", "message": "The job needs 2 GPU.", "arguments": {}}
NOBODY = {"jobs": 0, "amount": 0}


def stretch(seconds: str, **more: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "phase": "QUEUED",
        "since": "2026-01-01T00:00:00Z",
        "seconds": seconds,
        "constraint": "gpu",
        "info": INFO,
        "ahead": [],
        "aheadOfOthers": NOBODY,
        "heldBy": [],
        "heldByOthers": NOBODY,
        "more": 0,
        "positions": [],
    }
    return plain | more


def answer(*stretches: dict[str, Any], **more: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "job": "5d1f",
        "name": "train",
        "run": 1,
        "state": "QUEUED",
        "waiting": True,
        "queuedAt": "2026-01-01T00:00:00Z",
        "waitSeconds": "90.5",
        "refused": None,
        "stretches": list(stretches),
    }
    return plain | more


def test_who_holds_and_who_is_ahead() -> None:
    ahead = [{"name": f"j{n}", "why": "earlier-in-line"} for n in range(5)]
    held = [{"name": "big", "amount": 2}]
    found = answer(
        stretch(
            "90.5",
            ahead=ahead,
            heldBy=held,
            heldByOthers={"jobs": 2, "amount": 6},
            aheadOfOthers={"jobs": 1, "amount": 0},
            positions=[7],
        )
    )
    told = list(lines(found))
    assert told[0] == "job 5d1f (train), run 1, QUEUED"
    assert told[1].startswith("waits 1m 30s since ")
    assert told[2].endswith("QUEUED          1m 30s  for GPUs: The job needs 2 GPU.  (event 7)")
    assert told[3] == "    held by big (2 GPU), 2 jobs of others (6 GPU)"
    assert told[4] == (
        "    ahead: j0 (earlier in line), j1 (earlier in line), j2 (earlier in line), 2 jobs more, "
        "1 job of others"
    )


def test_neighbours_of_one_reason_are_told_together() -> None:
    more = {"jobs": 3, "amount": 0}
    told = list(
        lines(answer(stretch("30", aheadOfOthers=more), stretch("60.5", constraint="gpu"), waiting=False))
    )
    assert told[1].startswith("waited ")
    assert len(told) == 4
    assert told[3] == "    at first ahead: 3 jobs of others"


def test_refusals_are_told_first() -> None:
    refused = {
        "times": 2,
        "since": "2026-01-01T00:00:00Z",
        "info": {"message": "Too much."},
        "positions": [3, 4],
    }
    told = list(lines(answer(refused=refused)))
    assert told[2].startswith("refused before that, 2 times since ")
    assert told[2].endswith("Too much. (event 3, 4)")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0s"), (9.96, "10.0s"), (60, "1m"), (3661, "1h 1m"), (200_000, "2d 7h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert lasted(seconds) == text

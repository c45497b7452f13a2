"""How a container ended, as the stream of events said it, and what its engine says of it later."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from service.supervisor.engine import ended
from service.supervisor.engine.ended import Ends
from service.supervisor.engine.protocol import Container

AT = datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)
BEGAN = AT - timedelta(seconds=9)
#: As an engine says it that was killed before it had written down how the process ended.
FORGOTTEN = Container(
    id="a",
    name="job",
    labels={},
    state="exited",
    exit_code=0,
    oom_killed=False,
    error="",
    started_at=BEGAN,
    finished_at=AT + timedelta(minutes=1),
    image_id="sha256:1",
    ip=None,
)


def event(action: str, container: str = "a", at: datetime = AT, **attributes: str) -> dict[str, Any]:
    nanos = round(at.timestamp() * 1_000_000) * 1000 + 789
    return {"Action": action, "Actor": {"ID": container, "Attributes": attributes}, "timeNano": nanos}


def heard(*events: dict[str, Any]) -> Ends:
    ends = Ends()
    for each in events:
        ends.hear(each)
    return ends


def test_what_was_heard_counts_with_its_moment() -> None:
    ends = heard(event("die", exitCode="3"))
    with capture_logs() as lines:
        found = [ends.corrected(FORGOTTEN) for _ in range(2)]
    assert found == [replace(FORGOTTEN, exit_code=3, finished_at=AT)] * 2
    assert [(line["event"], line["was"], line["says"]) for line in lines] == [("engine forgot an end", 3, 0)]


@pytest.mark.parametrize(
    "events",
    [
        [],
        [event("die", at=AT + timedelta(seconds=59.5), exitCode="0")],
        [event("die", "b", exitCode="3")],
        [event("kill", signal="15")],
        [event("die", exitCode="")],
        [event("die", exitCode="3"), event("start")],
        # Started once more by somebody on the node, and nobody heard of that.
        [event("die", at=AT - timedelta(seconds=11), exitCode="3")],
    ],
)
def test_otherwise_the_engine_is_believed(events: list[dict[str, Any]]) -> None:
    assert heard(*events).corrected(FORGOTTEN) is FORGOTTEN


@pytest.mark.parametrize(
    ("code", "oom", "lost"), [(137, False, True), (137, True, False), (3, False, False), (0, False, False)]
)
def test_a_die_that_has_no_code_to_give_goes_behind_what_was_written_down_with_it(
    code: int, oom: bool, lost: bool
) -> None:
    """A shim was killed: containerd ended the process, and had forgotten it as dockerd asked once more."""
    ends = heard(event("die", exitCode="255"))
    at_once = replace(FORGOTTEN, exit_code=code, oom_killed=oom, finished_at=AT)
    assert ends.corrected(at_once) == replace(at_once, lost=lost)
    later = replace(FORGOTTEN, exit_code=code, oom_killed=oom)  # of a dockerd that began since
    assert ends.corrected(later) == replace(later, exit_code=255, finished_at=AT)


def test_the_moment_that_was_heard_counts_also_where_the_code_is_the_same() -> None:
    """Of a process that ended well just as its engine died: it did not run on until that was back."""
    with capture_logs() as lines:
        found = heard(event("die", exitCode="0")).corrected(FORGOTTEN)
    assert found == replace(FORGOTTEN, finished_at=AT)
    assert [line["event"] for line in lines] == ["engine forgot an end"]


def test_the_first_end_counts_and_one_that_runs_has_none() -> None:
    """A dockerd that begins may end once more what had ended already."""
    ends = heard(event("die", exitCode="3"), event("die", at=AT + timedelta(seconds=5), exitCode="137"))
    assert ends.corrected(FORGOTTEN).exit_code == 3
    running = replace(FORGOTTEN, state="running", exit_code=None, finished_at=None)
    assert ends.corrected(running) is running


def test_an_end_a_moment_before_the_start_is_one() -> None:
    ends = heard(event("die", at=BEGAN - timedelta(milliseconds=2), exitCode="3"))
    assert ends.corrected(FORGOTTEN).exit_code == 3


def test_only_so_many_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ended, "_KEPT", 2)
    ends = heard(*(event("die", container, exitCode="3") for container in "abc"))
    codes = [ends.corrected(replace(FORGOTTEN, id=container)).exit_code for container in "abc"]
    assert codes == [0, 3, 3]

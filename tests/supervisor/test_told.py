"""What the engine's stream of events says of containers that were told to stop is kept, as an engine that
ends takes its own memory of it along."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from service.errors import Unavailable
from service.supervisor.engine import recent, told
from service.supervisor.engine.recent import EngineClock
from service.supervisor.engine.told import ToldToStop, told_to_stop
from service.supervisor.engine.wire import Answer


def event(action: str, container: str = "a", **attributes: str) -> dict[str, Any]:
    return {"Action": action, "Actor": {"ID": container, "Attributes": attributes}}


@pytest.mark.parametrize(
    ("heard", "is_told"),
    [
        (event("kill", signal="15"), True),
        (event("kill", signal="9"), True),
        (event("kill", signal="37"), True),
        (event("stop"), True),
        (event("kill", signal="1"), False),
        (event("kill", signal="10"), False),
        (event("die", exitCode="15"), False),
        (event("exec_start: kill -15 1"), False),
    ],
)
def test_what_tells_a_process_to_end(heard: dict[str, Any], is_told: bool) -> None:
    known = ToldToStop()
    known.hear(heard)
    assert ("a" in known) == is_told
    assert "b" not in known


def test_one_that_starts_anew_was_not_told_yet() -> None:
    known = ToldToStop()
    for heard in (event("stop"), event("start")):
        known.hear(heard)
    assert "a" not in known


def test_only_so_many_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told, "_KEPT", 2)
    known = ToldToStop()
    for container in "abc":
        known.hear(event("stop", container))
    assert [container in known for container in "abc"] == [False, True, True]


ENDED_AT = datetime(2026, 5, 1, 12, tzinfo=UTC)
ENDED: Any = SimpleNamespace(id="a", started_at=ENDED_AT - timedelta(hours=1), finished_at=ENDED_AT)


class Remembers:
    """An engine that remembers one event of a container, asked a minute after the container's end."""

    def __init__(self, remembered: dict[str, Any], at: datetime) -> None:
        self._event, self._at = remembered, at
        self.asked = 0
        self.hangs = False

    async def call(self, _method: str, path: str, *, timeout_s: float) -> Answer:
        assert path == "/info" and timeout_s in (0.1, 8)
        self.asked += 1
        return Answer(200, {"SystemTime": (ENDED_AT + timedelta(minutes=1)).isoformat()})

    @asynccontextmanager
    async def stream(self, _method: str, _path: str, *, params: Mapping[str, str]) -> AsyncIterator[Any]:
        known = float(params["since"]) <= self._at.timestamp() <= float(params["until"])
        line = json.dumps(self._event).encode() if known else b""

        async def read() -> bytes:
            if self.hangs:
                await asyncio.Event().wait()
            return line

        yield SimpleNamespace(status=200, read=read)


@pytest.mark.parametrize("late_s", [-1.0, 0.005])
async def test_a_signal_that_is_told_of_when_it_has_ended_the_process_is_one(late_s: float) -> None:
    wire: Any = Remembers(event("kill", signal="15"), ENDED_AT + timedelta(seconds=late_s))
    assert await told_to_stop(wire, EngineClock(wire), ENDED, 8)


async def test_the_engine_is_not_asked_for_its_time_for_each_container(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wire: Any = Remembers(event("kill", signal="15"), ENDED_AT)
    clock = EngineClock(wire)
    for _ in range(3):
        assert await told_to_stop(wire, clock, ENDED, 8)
    assert wire.asked == 1
    monkeypatch.setattr(recent, "FRESH_S", 0.0)
    await told_to_stop(wire, clock, ENDED, 8)
    assert wire.asked == 2


async def test_a_clock_of_the_engine_that_may_have_been_set_is_asked_anew() -> None:
    """It is set back: its stream would stay open until the time comes that it had before."""
    wire: Any = Remembers(event("kill", signal="15"), ENDED_AT)
    clock = EngineClock(wire)
    await told_to_stop(wire, clock, ENDED, 8)
    wire.hangs = True
    with pytest.raises(Unavailable, match="GET /events"):
        await told_to_stop(wire, clock, ENDED, 0.1)
    wire.hangs = False
    assert await told_to_stop(wire, clock, ENDED, 8)
    assert wire.asked == 2


async def test_a_late_answer_is_not_counted_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the engine made it is known to within the time that it took, and others would wait for as much."""
    monkeypatch.setattr(recent, "PROMPT_S", 0.0)
    wire: Any = Remembers(event("kill", signal="15"), ENDED_AT)
    clock = EngineClock(wire)
    for _ in range(2):
        assert await told_to_stop(wire, clock, ENDED, 8)
    assert wire.asked == 2


async def test_the_clock_goes_on_between_two_questions() -> None:
    wire: Any = Remembers(event("kill", signal="15"), ENDED_AT)
    clock = EngineClock(wire)
    first = await clock.now(8)
    await asyncio.sleep(0.01)
    assert first >= ENDED_AT + timedelta(minutes=1)
    assert await clock.now(8) >= first + timedelta(seconds=0.01)

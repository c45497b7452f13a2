"""The watch over parts, with parts of our own making that fail in every way."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from service.errors import Unavailable
from service.local import watch
from tests.support.waiting import until


class Made:
    """A part whose next restarts fail with `failures`, in their order; once they are used up it works."""

    def __init__(self, name: str, *failures: Exception) -> None:
        self.name = name
        self.failures = list(failures)
        self.dead = False
        self.restarts = 0

    async def start(self) -> None:
        raise AssertionError("what runs already is not started, but restarted")

    def has_died(self) -> bool:
        return self.dead

    async def restart(self) -> None:
        self.restarts += 1
        if self.failures:
            raise self.failures.pop(0)
        self.dead = False

    async def stop(self) -> None:
        raise AssertionError("the watch stops nothing")


class Slow(Made):
    """A part whose restart takes until `go`, and which loses cancellations that come meanwhile."""

    def __init__(self, name: str, loses: int = 0) -> None:
        super().__init__(name)
        self.loses = loses
        self.reached = asyncio.Event()
        self.go = asyncio.Event()

    async def restart(self) -> None:
        self.reached.set()
        while not self.go.is_set():
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                if not self.loses:
                    raise
                self.loses -= 1
                break
        await super().restart()


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_WATCH_S", 0.01)


async def test_a_part_is_tried_again_whatever_its_start_raises_and_why_is_said() -> None:
    said: list[str] = []
    part = Made("the part", Unavailable("no room"), OSError(28, "disk full"), KeyError("a fault"))
    with capture_logs() as logged:
        async with watch.kept_running([part], said.append):
            part.dead = True
            await until(lambda: said and said[-1] == "the part runs again")
            part.dead = True
            await until(lambda: part.restarts == 5 and said[-1] == "the part runs again")
    assert [line.partition("; trying")[0] for line in said] == [
        "the part ended by itself; starting it again",
        "the part does not start: no room",
        "the part does not start: OSError: [Errno 28] disk full",
        "the part does not start: KeyError: 'a fault'",
        "the part runs again",
        "the part ended by itself; starting it again",
        "the part runs again",
    ]
    pauses = [each["pause_s"] for each in logged if each["event"] == "part does not start"]
    assert pauses == [0.01, 0.02, 0.04]
    back = [(each["part"], each["attempts"]) for each in logged if each["event"] == "part started again"]
    assert back == [("the part", 4), ("the part", 1)]
    unforeseen = [each for each in logged if each["event"] == "part cannot be started"]
    assert len(unforeseen) == 2 and all(each["exc_info"] for each in unforeseen)


async def test_a_slow_start_does_not_hold_up_the_others() -> None:
    slow, quick = Slow("slow"), Made("quick")
    async with watch.kept_running([slow, quick], print):
        slow.dead = quick.dead = True
        await slow.reached.wait()
        await until(lambda: not quick.dead)
        assert slow.dead
    assert slow.restarts == 0, "the end of the watch is the end of a restart"


async def test_the_end_comes_also_when_a_restart_loses_the_cancellation() -> None:
    part = Slow("the part", loses=1)
    async with asyncio.timeout(10):
        async with watch.kept_running([part], print):
            part.dead = True
            await part.reached.wait()
    assert part.loses == 0 and part.restarts == 1


async def test_a_terminal_that_is_gone_is_no_reason_to_leave_a_part_dead() -> None:
    def say(_: str) -> None:
        raise BrokenPipeError

    part = Made("the part", Unavailable("no room"))
    async with watch.kept_running([part], say):
        part.dead = True
        await until(lambda: not part.dead)

"""What really happened: seen from outside, and nothing of it said by the product.

When somebody looked after the engine, what containers did, and which faults there were. What the ledger tells
is held against it: a bill has no time in which a run neither was looked after nor ran, an outcome is what the
process left, and only a fault makes a run end by a fault. All times are seconds of the loop's clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import Any

from service.domain import events as ev
from service.domain.events import Event
from service.supervisor.names import RunId
from tests.billing import calculator
from tests.billing.calculator import Facts
from tests.chaos.simulation.docker import UNKNOWN, SimEngine
from tests.chaos.simulation.postgres import BEGINNING, Postgres
from tests.chaos.simulation.process import Process
from tests.chaos.simulation.stores import Objects
from tests.support.engine.scripted import FakeContainer

#: A commit takes a moment, and so does what follows a look; and clocks of two machines differ by as much.
SLACK_S = 1.5
#: With a reply that is lost, and a commit that comes after it.
_COMMITTED_IN_S = 5.0
POLICY = "2021-05"
_GIVEN_UP_AFTER = 3

Span = tuple[float, float]


def now_s() -> float:
    return asyncio.get_running_loop().time()


class Supervision:
    """When somebody looked after the engine: had its lease, and was neither killed nor stopped.

    Who goes on after a stop, and nobody came meanwhile, was there all the time, as far as anybody can tell.
    """

    def __init__(self) -> None:
        self._spans: list[Span] = []
        self._holder: Process | None = None
        self._epoch = 0
        self._since = 0.0
        self._stops: dict[Process, Span] = {}

    def taken(self, process: Process) -> None:
        """Who was stopped as it took the lease may hear of that when others have it: then it has not."""
        epoch = process.epoch or 0
        if epoch < self._epoch:
            return
        self._epoch = epoch
        self._close()
        self._holder, self._since = process, now_s()

    def renewed(self, process: Process) -> None:
        """What had been sent by who was stopped or killed since is done all the same, once no lock is in its
        way: until then the ledger has it that somebody was there."""
        absent = process is not self._holder or self.is_stopped()
        if absent and process.epoch == self._epoch:
            self._spans.append((self._since, now_s()))

    def stopped(self, process: Process, until: float) -> None:
        since, before = self._stops.get(process, (now_s(), 0.0))
        self._stops[process] = (since if now_s() < before else now_s(), until)

    def killed(self, process: Process) -> None:
        if process is self._holder:
            self._close()
            self._holder = None

    def _close(self) -> None:
        if self._holder is None:
            return
        since, until = self._stops.get(self._holder, (0.0, 0.0))
        self._spans.append((self._since, since if now_s() < until else now_s()))

    def is_stopped(self) -> bool:
        """Whether who has the lease does nothing at all, and sees nothing."""
        return self._holder is not None and now_s() < self._stops.get(self._holder, (0.0, 0.0))[1]

    def spans(self) -> list[Span]:
        last = [] if self._holder is None else [(self._since, inf)]
        return [*self._spans, *last]


def measure(within: Span, spans: Iterable[Span]) -> float:
    """How much of a stretch lies in at least one of the spans."""
    total, reached = 0.0, within[0]
    for start, end in sorted(spans):
        start, end = max(start, reached), min(end, within[1])
        if end > start:
            total, reached = total + end - start, end
    return total


@dataclass
class _Run:
    """What is known of one run, besides what is said of it."""

    placed_at: float = inf
    jumps: int = 0
    ran: bool = False
    container: FakeContainer | None = None
    started_at: float = inf
    was_seen: bool = False
    fenced: bool = False
    #: When one that had not begun was put away; an engine that restarts after that does not remember it.
    put_away_at: float = inf
    refusals: int = 0
    #: When its user ordered it to end.
    ordered_at: float | None = None
    timed_out: bool = False
    outcome: str = ""


class Truth:
    """What an oracle holds against what is said."""

    engine: SimEngine

    def __init__(self, server: Postgres, objects: Objects) -> None:
        self._server, self._objects = server, objects
        self.supervision = Supervision()
        self._runs: dict[RunId, _Run] = {}
        self.restarts: list[float] = []

    @property
    def _failures(self) -> int:
        return self._objects.failures + self.engine.failures

    def _of(self, run: RunId) -> _Run:
        return self._runs.setdefault(run, _Run())

    # -- what happens -----------------------------------------------------------------------------------

    def effect(self, name: str, run: RunId | None, about: Any) -> None:
        """Of the engine: `fence` is of a container that was begun and put away as one that never was."""
        if name == "restart":
            self.restarts.append(now_s())
        if run is None:
            return
        known = self._of(run)
        if name == "start":
            known.container, known.started_at = about, now_s()
        elif name == "killed":
            # Who goes on after a stop may look at the container before it hears that the stream has ended.
            known.was_seen = not self.supervision.is_stopped()
        elif name == "fence":
            known.fenced |= about.started_at is not None
            known.put_away_at = now_s()

    # -- what is said of it -----------------------------------------------------------------------------

    def wrong(self, run: RunId, event: Event) -> list[str]:
        """What an event says of a run, and is not so."""
        known, body, found = self._of(run), event.body, list[str]()
        match body:
            case ev.RunPlaced():
                known.placed_at = min(now_s(), self._loop_time(event.occurred_at))
                # While the ledger waits for a clock that was set back its times are all the same; and one
                # may be set between the moment and its commit.
                late_s = (self._server.clock() - event.occurred_at).total_seconds()
                known.jumps = self._server.jumps if -SLACK_S <= late_s <= _COMMITTED_IN_S else -1
                known.refusals = self.engine.refusals
            case ev.RunStarted():
                known.ran = True
            case ev.InterruptOrdered():
                known.ordered_at = now_s() if known.ordered_at is None else known.ordered_at
            case ev.TimeoutReached():
                known.timed_out = True
            case ev.RunExited():
                known.outcome = str(body.outcome)
                found = self._exit(known, body)
            case ev.RunAborted():
                known.outcome = str(body.outcome)
                found = self._abort(known, body)
            case ev.RunErrored():
                found = self._error(known, body)
            case ev.RunFinalized():
                excused = str(body.target) == "FAILED" and self._failures
                if str(body.target) != known.outcome and not excused:
                    found = [f"is {body.target}, and came out as {known.outcome}"]
        return [f"{run} {each}" for each in found]

    def _exit(self, known: _Run, body: ev.RunExited) -> list[str]:
        fake = known.container
        if fake is None or fake.state != "exited":
            return ["has exited, and its container has not"]
        if (body.exit_code, body.oom_killed) != (fake.exit_code, fake.oom_killed):
            return [f"has exited with {body.exit_code}, and its container with {fake.exit_code}"]
        return self._outcome(known, body, fake) + self._credit(known, body, fake)

    def _outcome(self, known: _Run, body: ev.RunExited, fake: FakeContainer) -> list[str]:
        expected = ["DONE" if fake.exit_code == 0 and not fake.told_to_stop else "FAILED"]
        if (known.ordered_at is not None or known.timed_out) and not self._was_over(known, fake):
            # What ended by itself while it was to be stopped came out both ways.
            expected = ["INTERRUPTED", *(expected if not fake.told_to_stop else [])]
        if body.outcome in expected:
            return []
        return [f"came out as {body.outcome}, and should as {' or '.join(expected)}"]

    def _was_over(self, known: _Run, fake: FakeContainer) -> bool:
        """Whether its process had ended by itself clearly before anybody wanted it to."""
        if known.timed_out or known.ordered_at is None or known.jumps != self._server.jumps:
            return False
        if not known.ran:  # the ledger never heard that it began, and nobody pays for it
            return False
        return not fake.told_to_stop and self._loop_time(fake.finished_at) < known.ordered_at - 2 * SLACK_S

    def _credit(self, known: _Run, body: ev.RunExited, fake: FakeContainer) -> list[str]:
        """Whose fault it is said to be."""
        if body.stopped_outside and not fake.told_to_stop:
            return ["is said to have been told to stop"]
        again = any(known.started_at <= each for each in self.restarts)
        cut_off = fake.id in self.engine.cut_starts and fake.exit_code != 0
        if body.unknown and not ((fake.exit_code == UNKNOWN or cut_off) and again):
            return ["has an end that is said to be unknown"]
        lost = known.was_seen and str(body.source) == "RUNNING" and fake.exit_code == UNKNOWN
        return ["was lost with its engine, and that is not said"] if lost and not body.unknown else []

    def _abort(self, known: _Run, body: ev.RunAborted) -> list[str]:
        if known.container is not None and not known.fenced:
            return ["is over as one that never began, and had begun"]
        if body.outcome == "INTERRUPTED":
            return [] if known.ordered_at is not None else ["is interrupted by nobody"]
        return [] if self._failures or self.engine.refusals else ["failed, and nothing was wrong"]

    def _error(self, known: _Run, body: ev.RunErrored) -> list[str]:
        code = body.info.code if body.info is not None else ""
        if code == "container-lost":
            nobody_knows = any(known.put_away_at <= each for each in self.restarts)
            return (
                [] if known.fenced or nobody_knows else ["was given up as lost, and its container is there"]
            )
        if code == "engine-refused":
            refused = self.engine.refusals - known.refusals
            return [] if refused >= _GIVEN_UP_AFTER else [f"is in ERROR after {refused} refusals"]
        return [f"is in ERROR ({code}), and no fault explains it"]

    # -- what it costs ----------------------------------------------------------------------------------

    def absence(self, run: RunId, facts: Facts) -> str | None:
        """Of a bill that is not credited: what it has beyond the time in which it ran or was looked after.

        Times on a bill are those of a wall clock: of a run during which that was set nothing can be said.
        """
        known = self._of(run)
        if facts.credited or not facts.ran or known.jumps != self._server.jumps or known.placed_at == inf:
            return None
        spans = self.supervision.spans()
        fake = known.container
        if fake is not None and fake.started_at is not None:
            spans.append((self._loop_time(fake.started_at), self._loop_time(fake.finished_at)))
        there = measure((known.placed_at, now_s()), spans)
        billed = calculator.counted(facts, POLICY) / 1_000_000
        if billed <= there + SLACK_S:
            return None
        return f"{run} is billed for {billed:.1f} s, and was run or looked after for {there:.1f} s"

    def _loop_time(self, at: Any) -> float:
        return inf if at is None else float((at - BEGINNING - self._server.skew).total_seconds())

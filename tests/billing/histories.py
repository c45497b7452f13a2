"""Histories of very many runs, made from a seed: every way a run can go, as the events of a ledger.

Times are whole microseconds, and like boundaries: many stretches last a whole number of minutes, or a
microsecond more or less.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID

from service.domain import events as ev
from service.domain.events import Event
from service.domain.states import State as S
from tests.support import jobs

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = 60_000_000
PROJECT = "vision"
FLAVORS = ("ai1-1-cpu", "ai1-1-gpu", "ai1-2-odd")
CURRENCY = "EUR"
#: How many jobs' events are mixed into one another.
TOGETHER = 40

_SPEC = jobs.spec()
_INFO = ev.Info("test", "So it was.")
_COMMAND = UUID(int=1)


def moment(at: int) -> datetime:
    """The time so many microseconds after the beginning."""
    return BEGINNING + timedelta(microseconds=at)


def lasting(random: Random) -> int:
    """Microseconds of one stretch: from none at all to some days."""
    whole = random.choice((0, 1, 1, 2, 3, 7, 60, 61, 600, 4000)) * MINUTE
    return random.choice((whole, whole, whole + 1, max(0, whole - 1), random.randrange(90 * MINUTE)))


def price_of(random: Random) -> Decimal:
    """A price per hour and unit, with up to nine digits after the point."""
    return Decimal(random.randrange(1, 40 * 10**6)).scaleb(-random.choice((2, 4, 6, 7, 9)))


@dataclass
class Job:
    """One job on its way: what happened, in the order in which the ledger has it."""

    random: Random
    at: int
    price: Any
    units: int
    told: list[tuple[int, ev.Body, int]] = field(default_factory=list)
    run: int = 1
    state: S | None = None

    def move(self, kind: type[ev.Move], target: S, **fields: Any) -> None:
        body = kind(source=self.state, target=target, kind="cpu", units=self.units, **fields)
        self.told.append((self.at, body, self.run))
        self.state = target

    def pause(self) -> None:
        """Some time passes, in which now and then nobody looks after the run, or several say so."""
        began = self.at
        self.at += lasting(self.random)
        for _ in range(self.random.choice((0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3))):
            since = self.random.choice((began, began + (self.at - began) // 3, began - 5 * MINUTE, self.at))
            self.away(since, self.at)

    def away(self, since: int, until: int) -> None:
        body = ev.RunAdopted(engine="e", epoch=1, absent_since=moment(since))
        self.told.append((until, body, self.run))

    def history(self) -> None:
        """The job's runs, one after the other."""
        self.move(ev.JobSubmitted, S.QUEUED, spec=_SPEC, user="ada")
        while self._ran() and self.random.random() < 0.6:
            self.run += 1
            self.move(ev.RunQueued, S.QUEUED, info=_INFO)

    def _ran(self) -> bool:
        """One run from QUEUED on; whether there can be another after it."""
        chance = self.random.random()
        self.at += lasting(self.random)
        if chance < 0.02:
            self.move(ev.InterruptOrdered, S.INTERRUPTED, info=_INFO)
            return True
        flavor = self.random.choice(FLAVORS)
        self.move(
            ev.RunPlaced,
            S.INITIALIZING,
            **{"engine": "e", "node": "n", "epoch": 1, "flavor": flavor},
            **{"hourly_price": self.price(flavor, self.at), "currency": CURRENCY},
        )
        self.pause()
        if 0.02 <= chance < 0.06:
            return self._never_ran(chance)
        self.move(ev.RunPrepared, S.PENDING)
        self.pause()
        if 0.06 <= chance < 0.10:
            return self._never_ran(chance)
        self.move(ev.RunStarted, S.RUNNING, container_id="c", image_id="i", timeout_at=moment(self.at))
        self.pause()
        return self._stopped(self.random.random())

    def _never_ran(self, chance: float) -> bool:
        if int(chance * 1000) % 4 == 0:
            self.move(ev.RunErrored, S.ERROR, info=_INFO)
            return False
        if int(chance * 1000) % 4 == 1:
            self.move(ev.InterruptOrdered, S.INTERRUPTING, info=_INFO)
            self.pause()
        self.move(ev.RunAborted, S.FINALIZING, outcome=S.FAILED, info=_INFO)
        self.pause()
        self.move(ev.RunFinalized, S.FAILED, info=_INFO)
        return True

    def _stopped(self, chance: float) -> bool:
        """From RUNNING to the end of the run; whether there can be another after it."""
        if chance < 0.04:
            self.move(ev.RunErrored, S.ERROR, info=_INFO)
            return False
        if chance < 0.30:
            self._ordered(chance)
            self.pause()
        if 0.04 <= chance < 0.06:
            self.move(ev.RunErrored, S.ERROR, info=_INFO)
            return False
        timed_out = self.state is S.TIMEOUT
        if chance > 0.9:
            # The node was gone: what ended meanwhile is told after that nobody had been there.
            self.away(self.at - self.random.choice((0, MINUTE)), self.at + self.random.choice((0, MINUTE)))
        code = self.random.choice((0, 0, 1, 137))
        oom = code == 137 and self.random.random() < 0.3
        outcome = S.DONE if code == 0 else S.FAILED
        gone = moment(self.at + self.random.choice((-MINUTE, 0, 1))) if 0.5 < chance < 0.6 else None
        how = {"exit_code": code, "oom_killed": oom, "outcome": outcome, "engine_away_since": gone}
        unknown = gone is not None and code == 1
        told = self.random.random() < 0.1
        if self.state is not S.RUNNING and self.random.random() < 0.3:
            began, left = (self._last(state) for state in (S.RUNNING, self.state))
            how["ended_at"] = moment(self.random.choice((began, self.random.randrange(began, left + 1))))
        self.move(ev.RunExited, S.FINALIZING, info=_INFO, unknown=unknown, stopped_outside=told, **how)
        self.at += MINUTE
        if self.random.random() < 0.05:
            self.move(ev.InterruptOrdered, S.FINALIZING, info=_INFO)  # moves nothing
        self.pause()
        if 0.30 <= chance < 0.33:
            self.move(ev.RunErrored, S.ERROR, info=_INFO)
            return False
        if not (timed_out and self.random.random() < 0.5):  # else it restarts at its timeout
            self.move(ev.RunFinalized, outcome, info=_INFO)
        return True

    def _ordered(self, chance: float) -> None:
        if chance < 0.15:
            self.move(ev.InterruptOrdered, S.INTERRUPTING, info=_INFO)
        elif chance < 0.25:
            self.move(ev.TimeoutReached, S.TIMEOUT)
        else:
            self.move(ev.StorageExceeded, S.INTERRUPTING, used_bytes=2, limit_bytes=1, info=_INFO)

    def _last(self, state: S | None) -> int:
        """When it came into this state."""
        return next(
            at for at, body, _ in reversed(self.told) if isinstance(body, ev.Move) and body.target is state
        )


class History:
    """The events of `count` runs or a few more of one project, and of the yard's prices, in their order."""

    def __init__(self, count: int, seed: int) -> None:
        self._random = Random(seed)
        self._count = count
        self._position = 0
        self._clock = 0
        self.lists: list[tuple[int, dict[str, Decimal]]] = []

    def pages(self) -> Iterator[list[Event]]:
        """Page after page, some hundred events each."""
        yield [self._prices(0)]
        made = number = 0
        while made < self._count:
            together = []
            for _ in range(TOGETHER):
                number += 1
                start = self._clock + self._random.randrange(30 * MINUTE)
                job = Job(self._random, start, self._in_force, self._random.choice((1, 1, 2, 3, 4, 12)))
                job.history()
                made += job.run
                together.append((UUID(int=number), job.told))
            yield list(self._mixed(together))
            self._clock += self._random.randrange(60 * MINUTE)
            if self._random.random() < 0.2:
                # Of now, of what is to come, or long past: none changes what was placed.
                yield [self._prices(self._clock + self._random.choice((0, 9000, -9000)) * MINUTE)]

    def _mixed(self, together: list[tuple[UUID, list[tuple[int, ev.Body, int]]]]) -> Iterator[Event]:
        """The events of several jobs, mixed; each job's own stay in their order."""
        longest = max(len(told) for _, told in together)
        for step in range(longest):
            for job, told in together:
                if step < len(told):
                    at, body, run = told[step]
                    yield self._event(body, at, PROJECT, job, run)

    def _event(
        self, body: ev.Body, at: int, project: str | None, job: UUID | None = None, run: int | None = None
    ) -> Event:
        self._position += 1
        when = moment(at)
        return Event(
            position=self._position,
            project=project,
            job=job,
            run=run,
            body=body,
            occurred_at=when,
            recorded_at=when,
            actor="test",
            command_id=_COMMAND,
        )

    def _prices(self, valid_from: int) -> Event:
        flavors = FLAVORS if not self.lists else self._random.sample(FLAVORS, self._random.choice((1, 2, 3)))
        prices = {flavor: price_of(self._random) for flavor in flavors}
        self.lists.append((max(0, valid_from), prices))
        body = ev.PricesSet(prices=prices, valid_from=moment(max(0, valid_from)), currency=CURRENCY)
        return self._event(body, self._clock, None)

    def _in_force(self, flavor: str, at: int) -> Decimal:
        """The list with the latest validity that has begun; of two that began together, the later one."""
        best = (-1, Decimal(0))
        for valid_from, prices in self.lists:
            if best[0] <= valid_from <= at and flavor in prices:
                best = (valid_from, prices[flavor])
        return best[1]

"""The same history once more, with other limits or another node: the same plan and the same quota, from one
event to the next. Nothing changed, it must come out as it was.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from msgspec.structs import replace

from projections.waiting.pieces import History, Piece, RunKey
from projections.waiting.yard import Floor, fits
from service.domain import events as ev
from service.domain.events import Info
from service.domain.flavors import Kind
from service.domain.job import Job
from service.domain.quota import Quota
from service.domain.spec import JobSpec
from service.domain.states import State

#: `given-up`: an order ended it while it was queued. `none`: it never came to be asked for.
Outcome = Literal["placed", "waiting", "refused", "given-up", "never-fits", "none"]

#: After all that the ledger tells of the same moment.
_LAST = 2**62


@dataclass(frozen=True)
class Change:
    """What is otherwise from `since` on: a project's limits by kind, and what the node has."""

    since: datetime
    project: str = ""
    quota: dict[Kind, int] = field(default_factory=dict)
    cpus: int | None = None
    memory: int | None = None
    gpus: int | None = None


class Fate(NamedTuple):
    """What became of a run. `asked_at`: when it was first asked for; `taken_at`: when it came to the queue;
    `cut_at`: when an order stopped it that in truth came while it was queued."""

    outcome: Outcome
    asked_at: datetime
    taken_at: datetime | None = None
    placed_at: datetime | None = None
    cut_at: datetime | None = None


class Simulation:
    """`run` it once; `fates` then has every run of the history."""

    def __init__(self, history: History, change: Change) -> None:
        self._history = history
        self._change = change
        self._floor = Floor()
        self._quotas: dict[str, Quota] = defaultdict(lambda: Quota(""))
        self._jobs: dict[RunKey, Job] = {}
        self._over: set[RunKey] = set()
        self._counted: set[RunKey] = set()
        self._waiting_for: dict[RunKey, list[tuple[Piece, int]]] = defaultdict(list)
        self._heap: list[tuple[datetime, int, int, Callable[[datetime], None]]] = []
        self._entries = 0
        self._ticks: set[datetime] = set()
        self._come = 0
        self._changed = False
        self._keys: dict[object, RunKey] = {}
        self.fates: dict[RunKey, Fate] = {}

    def run(self) -> dict[RunKey, Fate]:
        """From the beginning of the history to its end."""
        self._set_out()
        end = self._history.end
        while self._heap and self._heap[0][0] <= end:
            at = self._heap[0][0]
            while self._heap and self._heap[0][0] == at:
                heapq.heappop(self._heap)[3](at)
            self._plan(at)
        node = self._floor.node()
        for key, fate in self.fates.items():
            if fate.outcome == "waiting" and node is not None and not fits(node, self._jobs[key]):
                self.fates[key] = fate._replace(outcome="never-fits")
        return self.fates

    def _set_out(self) -> None:
        history, change = self._history, self._change
        for event in history.limits:
            self._at(max(event.recorded_at, history.begin), event.position, self._limit(event))
        for event in history.yard:
            self._at(event.recorded_at, event.position, self._begins(event.body))
        for gap in history.gaps:
            # Whoever was away plans nothing; the end of it is that a supervisor begins.
            self._at(max(gap.start, history.begin), _LAST, lambda _: None)
        self._at(max(change.since, history.begin), 0, self._changes)
        for piece in history.pieces.values():
            self.fates[piece.key] = Fate("none", piece.asked[0].at)
            if piece.placed_at is not None and piece.placed_at < history.begin:
                self._at(history.begin, piece.queued_position, self._there(piece))
            elif piece.asked[0].at < history.begin:
                self._at(history.begin, piece.queued_position, self._taken(piece))
            elif not piece.at_once:
                for number, asked in enumerate(piece.asked):
                    self._at(asked.at, asked.position, self._wanted(piece, number))
            else:
                self._waiting_for[piece.after or piece.key].append((piece, 0))
            if piece.given_up is not None:
                self._at(piece.given_up.at, piece.given_up.position, self._gives_up(piece))

    def _at(self, at: datetime, order: int, what: Callable[[datetime], None]) -> None:
        """`order` settles what happens first of the same moment: the ledger's own, where it is known."""
        self._entries += 1
        heapq.heappush(self._heap, (at, order, self._entries, what))

    # -- the yard -------------------------------------------------------------------------------------

    def _begins(self, body: ev.SupervisorStarted | ev.AdmissionSet) -> Callable[[datetime], None]:
        if isinstance(body, ev.AdmissionSet):
            return lambda _: setattr(self._floor, "stopped", body.stopped)
        return lambda _: self._floor.begin(self._with_capacity(body) if self._changed else body)

    def _changes(self, _at: datetime) -> None:
        self._changed = True
        change, floor = self._change, self._floor
        if floor.began is not None:
            first_since, stopped = floor.first_since, floor.stopped
            floor.begin(self._with_capacity(floor.began))
            # The same supervisor, with more or less to plan with.
            floor.first_since, floor.stopped = first_since, stopped
        if change.project:
            quota = self._quotas[change.project]
            self._quotas[change.project] = replace(
                quota, **{str(kind): n for kind, n in change.quota.items()}
            )

    def _with_capacity(self, body: ev.SupervisorStarted) -> ev.SupervisorStarted:
        asked = {"cpus": self._change.cpus, "memory": self._change.memory, "gpus": self._change.gpus}
        given = {name: amount for name, amount in asked.items() if amount is not None}
        return replace(body, **given) if given else body

    def _limit(self, event: ev.Event) -> Callable[[datetime], None]:
        def set_it(_at: datetime) -> None:
            project = event.project or ""
            quota, limits = self._quotas[project], {"cpu": event.body.cpu, "gpu": event.body.gpu}
            if self._changed and project == self._change.project:
                limits |= {str(kind): most for kind, most in self._change.quota.items()}
            self._quotas[project] = replace(quota, **limits)

        return set_it

    # -- what is wanted -------------------------------------------------------------------------------

    def _wanted(self, piece: Piece, number: int) -> Callable[[datetime], None]:
        """It is asked for, once more perhaps; a run that is to follow another waits for that one's end."""

        def ask(at: datetime) -> None:
            if self.fates[piece.key].taken_at is not None:
                return
            before = piece.after
            if before in self.fates and before not in self._over:
                if not self._is_gone(before):
                    self._waiting_for[before].append((piece, number))
                return
            resources = piece.resources
            if self._quotas[piece.project].admits(resources.kind, resources.units):
                self._take(piece, at)
            elif number + 1 >= len(piece.asked) or piece.at_once:
                self.fates[piece.key] = self.fates[piece.key]._replace(outcome="refused")

        return ask

    def _is_gone(self, key: RunKey) -> bool:
        """A run that was refused: what was to follow it is not asked for."""
        return self.fates[key].outcome == "refused"

    def _taken(self, piece: Piece) -> Callable[[datetime], None]:
        """It was in the queue already when the history begins."""
        return lambda _at: self._take(piece, piece.asked[-1].at)

    def _take(self, piece: Piece, at: datetime) -> None:
        self._count(piece)
        self._come += 1
        job = self._jobs[piece.key] = contender(piece, self._come, at)
        self._keys[piece.key[0]] = piece.key
        self._floor.queue(job)
        self.fates[piece.key] = self.fates[piece.key]._replace(outcome="waiting", taken_at=at)

    def _count(self, piece: Piece) -> None:
        quota, resources = self._quotas[piece.project], piece.resources
        self._counted.add(piece.key)
        self._quotas[piece.project] = quota.changed(resources.kind, resources.units)

    def _uncount(self, piece: Piece) -> None:
        """Its units are free again, once."""
        if piece.key in self._counted:
            quota, resources = self._quotas[piece.project], piece.resources
            self._counted.discard(piece.key)
            self._quotas[piece.project] = quota.changed(resources.kind, -resources.units)

    def _gives_up(self, piece: Piece) -> Callable[[datetime], None]:
        """The order comes when it came; what has its place by then is stopped."""

        def stop(at: datetime) -> None:
            fate = self.fates[piece.key]
            if fate.outcome not in ("waiting", "placed") or piece.key in self._over:
                return
            if fate.outcome == "waiting":
                self.fates[piece.key] = fate._replace(outcome="given-up")
            else:
                self.fates[piece.key] = fate._replace(cut_at=at)
            self._uncount(piece)
            self._leave(piece, at)

        return stop

    # -- what is placed -------------------------------------------------------------------------------

    def _there(self, piece: Piece) -> Callable[[datetime], None]:
        """It had its place already when the history begins."""

        def be_there(at: datetime) -> None:
            course = piece.course
            if course is None:
                return
            self._keys[piece.key[0]] = piece.key
            job = self._jobs[piece.key] = contender(piece, 0, piece.asked[-1].at)
            self._floor.place(replace(job, state=State.RUNNING, engine=course.engine, gpus=course.gpus))
            placed_at = course.placed_at
            self.fates[piece.key] = Fate("placed", piece.asked[0].at, piece.asked[-1].at, placed_at)
            if course.uncounted is None or placed_at + course.uncounted >= at:
                self._count(piece)
                self._goes_on(piece, placed_at)
            elif course.over is not None:
                self._at(placed_at + course.over, course.positions[2], lambda at: self._leave(piece, at))

        return be_there

    def _plan(self, at: datetime) -> None:
        if any(gap.start <= at < gap.end for gap in self._history.gaps):
            return
        made = self._floor.planned(at)
        if made is None:
            return
        for placement in made.placements:
            piece = self._history.pieces[self._keys[placement.job.id]]
            engine = self._floor.began.engine if self._floor.began else None
            self._floor.place(replace(placement.job, state=State.RUNNING, engine=engine, gpus=placement.gpus))
            lag = piece.course.lag if piece.course else timedelta()
            self.fates[piece.key] = self.fates[piece.key]._replace(outcome="placed", placed_at=at + lag)
            self._goes_on(piece, at + lag)
        due = self._floor.next_tired(at)
        if due is not None and due not in self._ticks:
            self._ticks.add(due)
            self._at(due, _LAST, lambda _: None)

    def _goes_on(self, piece: Piece, placed_at: datetime) -> None:
        """What follows from its place, as it was measured; without any measure it keeps what it has."""
        course = piece.course
        if course is None:
            return
        if course.uncounted is not None:
            self._at(
                placed_at + course.uncounted, course.positions[1] or _LAST, lambda _: self._uncount(piece)
            )
        if course.over is not None:
            self._at(placed_at + course.over, course.positions[2] or _LAST, lambda at: self._leave(piece, at))

    def _leave(self, piece: Piece, at: datetime) -> None:
        """It is over, once; what was to follow it is asked for now."""
        if piece.key in self._over:
            return
        self._over.add(piece.key)
        self._floor.leave(self._jobs[piece.key])
        for following, number in self._waiting_for.pop(piece.key, []):
            self._wanted(following, number)(at)


def contender(piece: Piece, come: int, at: datetime) -> Job:
    """The run as a plan looks at it; `come` orders the queue."""
    return Job(
        id=piece.key[0],
        project=piece.project,
        run=piece.key[1],
        state=State.QUEUED,
        spec=JobSpec(image="", name=piece.name, resources=piece.resources),
        user="",
        created_at=at,
        updated_at=at,
        position=come,
        created_position=come,
        queued_position=come,
        queued_at=at,
        last_transition_at=at,
        info=Info("queued", ""),
    )

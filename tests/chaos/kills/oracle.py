"""What must be true in the end, worked out of what four witnesses say: the clients, the engine, the jobs'
own marks and the ledger. Pure: `faults` gets all of it, and says what does not fit."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple

from service.domain.bills.run import Run
from service.domain.events import Event, Move, RunAdopted, RunExited
from tests.billing import calculator
from tests.billing.calculator import Facts, microseconds
from tests.chaos.kills.clients import ENDED, KINDS
from tests.chaos.kills.house import Outage
from tests.chaos.kills.journal import Answer, What

MILLION = 1_000_000
#: Clocks of processes on one machine agree; an engine's end is noted a moment after it.
_SLACK = timedelta(seconds=2)
#: What each order leaves in the ledger, once.
_LEAVES: dict[What, str] = {
    "submit": "JobSubmitted",
    "kill": "InterruptOrdered",
    "start": "RunQueued",
    "delete": "JobDeleted",
}


class RunOf(NamedTuple):
    job: str
    run: int


@dataclass(frozen=True)
class Evidence:
    """What the witnesses say once everything has settled."""

    answers: list[Answer]
    events: list[Event]
    bills: list[Run]
    #: (job, run) of each line of the bill as the API shows it.
    billed: list[RunOf]
    #: The state of each job as the API tells it; those that were deleted are not there.
    states: dict[str, str]
    starts: dict[tuple[str, int], set[str]]
    #: By run, the moments at which its engine says that a container of it began.
    begun: dict[tuple[str, int], set[int]]
    #: job -> the marks that its runs left in the object store.
    objects: dict[str, set[str]]
    frames: list[int]
    head: int
    outages: list[Outage]
    containers: list[str] = field(default_factory=list)
    networks: list[str] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    shims: list[int] = field(default_factory=list)
    quota_used: int = 0
    #: What was seen to be wrong while it happened.
    seen: list[str] = field(default_factory=list)


def faults(found: Evidence) -> list[str]:
    """Each way in which the witnesses contradict each other or the rules; nothing, if all is well."""
    return [
        *found.seen,
        *_killed(found),
        *_orders(found),
        *_ends(found),
        *_starts(found),
        *_left(found),
        *_bills(found),
        *_frames(found),
    ]


def _killed(found: Evidence) -> Iterable[str]:
    """Each part that was to be killed was there: a campaign that kills nobody shows nothing."""
    missed = [outage for outage in found.outages if not outage.killed]
    yield from (f"nobody killed: {outage.part} at {outage.began}" for outage in missed)


def _orders(found: Evidence) -> Iterable[str]:
    """Each acknowledged order is in the ledger once, and nothing that nobody ordered."""
    ledger = Counter((event.type, str(event.job)) for event in found.events)
    keys = Counter(answer.key for answer in found.answers)
    yield from (f"key {key} was answered {count} times" for key, count in keys.items() if count > 1)
    carried = [answer for answer in found.answers if answer.status < 300]
    orders = Counter((_LEAVES[answer.what], answer.job) for answer in carried)
    for (event, job), count in orders.items():
        there = ledger[event, job]
        if there < count:
            yield f"lost: {event} of job {job} was acknowledged {count} times, and is there {there} times"
    for (event, job), there in ledger.items():
        if event in _LEAVES.values() and there > orders[event, job]:
            yield f"twice: {event} of job {job} is there {there} times for {orders[event, job]} orders"
    for command, group in _by(found.events, lambda event: (event.command_id, event.type)).items():
        if command[1] in _LEAVES.values() and len(group) > 1:
            yield f"twice: command {command[0]} left {len(group)} events {command[1]}"


def _ends(found: Evidence) -> Iterable[str]:
    """Each job ends as its kind does, except where the engine died with it: then it costs nothing."""
    kinds = {answer.job: answer.kind for answer in found.answers if answer.what == "submit"}
    gone = {answer.job for answer in found.answers if answer.what == "delete" and answer.status < 300}
    bills = {RunOf(bill.job, bill.run): bill for bill in found.bills}
    for job in kinds:
        state = found.states.get(job)
        if state is None and job not in gone:
            yield f"lost: job {job} was acknowledged and cannot be read"
        if state is not None and state not in ENDED:
            yield f"job {job} has not ended: {state}"
    for run, group in _runs(found.events).items():
        ends = [event for event in group if str(getattr(event.body, "target", "")) in ENDED]
        end = str(getattr(ends[-1].body, "target", "")) if ends else "nothing"
        expected = KINDS[kinds[run.job]][1] if run.job in kinds else "?"
        bill = bills.get(run)
        if _unknown(found.outages, group):
            continue
        if bill is not None and bill.credited:
            if not _engine_died(found.outages, group):
                yield f"run {run} is credited, and its engine did not die: {end} {_told(group)}"
        elif end != expected and not (kinds.get(run.job) == "interrupted" and _was_late(group)):
            yield f"run {run} ended {end} and not {expected}: {_told(group)}"


def _unknown(outages: list[Outage], group: list[Event]) -> bool:
    """Ended by itself just as its engine died, which then says 255: nobody knows how it ended. Or it failed,
    and its engine was killed as it began: the cut may have made it fail."""
    ends = [event.body for event in group if isinstance(event.body, RunExited)]
    if [end.exit_code for end in ends] == [255]:
        return _away(outages, group)
    cut_off = [end.unknown and end.exit_code != 0 for end in ends] == [True]
    begun = [event.occurred_at for event in group if event.type in ("RunPlaced", "RunStarted")]
    return cut_off and any(
        begun[0] - _SLACK <= each.began <= begun[-1] + _SLACK for each in outages if each.part == "engine"
    )


def _was_late(group: list[Event]) -> bool:
    """An order to interrupt what had ended already."""
    return not any(event.type == "InterruptOrdered" for event in group)


def _engine_died(outages: list[Outage], group: list[Event]) -> bool:
    """Whether an engine that spares nothing was away in the time of a run."""
    return _away([each for each in outages if not each.spared], group)


def _away(outages: list[Outage], group: list[Event]) -> bool:
    """Whether the engine was away in the time of a run."""
    first, last = group[0].occurred_at - _SLACK, group[-1].recorded_at + _SLACK
    engines = [each for each in outages if each.part == "engine"]
    return any(each.began <= last and first <= (each.ended or last) for each in engines)


def _starts(found: Evidence) -> Iterable[str]:
    """No run started twice: by the ledger, by what it printed and by what it left in the store."""
    for run, group in _runs(found.events).items():
        started = [event for event in group if event.type == "RunStarted"]
        if len(started) > 1:
            yield f"twice: run {run} is started {len(started)} times in the ledger"
    for key, marks in found.starts.items():
        if len(marks) > 1:
            yield f"twice: run {RunOf(*key)} printed {len(marks)} starts"
    for key, moments in found.begun.items():
        if len(moments) > 1:
            yield f"twice: run {RunOf(*key)} began {len(moments)} times, as its engine says"
    yield from _unheard(found)
    last: dict[str, int] = defaultdict(int)
    done: set[str] = set()
    for run, group in _runs(found.events).items():
        last[run.job] = max(last[run.job], run.run)
        if any(str(getattr(event.body, "target", "")) == "DONE" for event in group):
            done.add(run.job)
    for job, marks in found.objects.items():
        if len(marks) > last[job]:
            yield f"twice: job {job} has {last[job]} runs, and left {len(marks)} marks of starts"
    kinds = {answer.job: answer.kind for answer in found.answers if answer.what == "submit"}
    for job in done:
        if kinds.get(job) == "data" and not found.objects.get(job):
            yield f"lost: job {job} is DONE, and what it made is not in the store"


def _unheard(found: Evidence) -> Iterable[str]:
    """A run that ended by itself printed its mark, and its log has that unless its engine was away: otherwise
    the witness of second starts would be one that sees nothing. And its engine said that it began."""
    for run, group in _runs(found.events).items():
        ends = {str(getattr(event.body, "target", "")) for event in group}
        exited = any(isinstance(event.body, RunExited) for event in group)
        shown = found.starts.get((run.job, run.run))
        if exited and ends & {"DONE", "FAILED"} and not shown and not _away(found.outages, group):
            yield f"lost: run {run} ended, and its log does not show that it began"
        if exited and not found.begun.get((run.job, run.run)) and not _away(found.outages, group):
            yield f"unheard: run {run} ended, and its engine did not say that it began"


def _left(found: Evidence) -> Iterable[str]:
    """Nothing is left over. A project keeps its one network."""
    yield from (f"orphan: container {name}" for name in found.containers)
    yield from (f"orphan: network {name}" for name in found.networks[1:])
    yield from (f"orphan: volume {name}" for name in found.volumes)
    yield from (f"orphan: folder {name}" for name in found.folders)
    yield from (f"orphan: process {pid} holds a container" for pid in found.shims)
    if found.quota_used:
        yield f"orphan: {found.quota_used} CPUs of the quota are in use"


def _bills(found: Evidence) -> Iterable[str]:
    """Each run has one line, of what an independent calculator makes of its events."""
    counted = Counter(found.billed)
    yield from (f"billed twice: run {run} has {count} lines" for run, count in counted.items() if count > 1)
    kept = Counter(RunOf(bill.job, bill.run) for bill in found.bills)
    yield from (f"billed twice: run {run} has {count} rows" for run, count in kept.items() if count > 1)
    beginning = found.events[0].occurred_at - timedelta(days=1)
    known: dict[RunOf, Facts] = defaultdict(Facts)
    for run, group in _runs(found.events).items():
        for event in group:
            if not isinstance(event.body, Move | RunAdopted):
                continue
            at = microseconds(event.occurred_at, beginning)
            calculator.note(known[run], event.body, at, beginning)
    for bill in found.bills:
        facts = known[RunOf(bill.job, bill.run)]
        expected = calculator.result(facts, "2021-05")
        told = calculator.Result(bill.minutes, int(bill.amount * MILLION), bill.credited)
        if told != expected:
            yield f"billed wrong: run {RunOf(bill.job, bill.run)} is {told}, and should be {expected}"
    for run, facts in known.items():
        if calculator.minutes(facts, "2021-05") and run not in kept:
            yield f"lost: run {run} has no line of the bill"


def _frames(found: Evidence) -> Iterable[str]:
    """The stream showed each event once, in order."""
    expected = [event.position for event in found.events if event.project == "default"]
    if found.frames != expected:
        twice = [position for position, count in Counter(found.frames).items() if count > 1]
        lost = sorted(set(expected) - set(found.frames))
        yield f"the stream is not the ledger: twice {twice[:5]}, lost {lost[:5]}, of {len(expected)}"
    if [event.position for event in found.events] != list(range(1, found.head + 1)):
        yield f"positions of the ledger have holes, below {found.head}"


def _runs(events: list[Event]) -> dict[RunOf, list[Event]]:
    of_runs = [event for event in events if event.job is not None and event.run is not None]
    return _by(of_runs, lambda event: RunOf(str(event.job), event.run or 0))


def _by(events: list[Event], key: Any) -> dict[Any, list[Event]]:
    found: dict[Any, list[Event]] = defaultdict(list)
    for event in events:
        found[key(event)].append(event)
    return found


def _told(group: list[Event]) -> str:
    """Why a run ended as it did, as its events say."""
    told = [f"{event.type} {getattr(event.body, 'info', '')}" for event in group]
    return " | ".join(told[-4:])

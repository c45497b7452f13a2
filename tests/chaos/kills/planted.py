"""Bugs for the oracle to find: each changes the evidence of a campaign as such a bug would have left it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from msgspec.structs import replace as changed

from service.domain.bills.faults import Fault
from service.domain.events import RunExited
from service.domain.states import State
from tests.chaos.kills.oracle import Evidence, RunOf, faults


def _first_job(found: Evidence) -> str:
    return next(answer.job for answer in found.answers if answer.what == "submit" and answer.kind == "short")


def lost_job(found: Evidence) -> Evidence:
    job = _first_job(found)
    events = [event for event in found.events if str(event.job) != job]
    return replace(
        found, events=events, states={key: state for key, state in found.states.items() if key != job}
    )


def lost_order(found: Evidence) -> Evidence:
    return replace(found, events=[event for event in found.events if event.type != "JobDeleted"])


def submitted_twice(found: Evidence) -> Evidence:
    again = [event for event in found.events if event.type == "JobSubmitted"][:1]
    return replace(found, events=[*found.events, *again])


def started_twice(found: Evidence) -> Evidence:
    key, marks = next((key, marks) for key, marks in found.starts.items() if marks)
    return replace(found, starts=found.starts | {key: marks | {"another"}})


def started_twice_as_its_engine_says(found: Evidence) -> Evidence:
    key, moments = next((key, moments) for key, moments in found.begun.items() if moments)
    return replace(found, begun=found.begun | {key: moments | {1}})


def an_engine_that_says_nothing(found: Evidence) -> Evidence:
    return replace(found, begun={}, outages=[])


def a_kill_of_nobody(found: Evidence) -> Evidence:
    first, *others = found.outages
    return replace(found, outages=[replace(first, killed=0), *others])


def silent(found: Evidence) -> Evidence:
    return replace(found, starts={}, outages=[])


def started_twice_in_the_store(found: Evidence) -> Evidence:
    job, marks = next((job, marks) for job, marks in found.objects.items() if marks)
    return replace(found, objects=found.objects | {job: marks | {"started-another"}})


def lost_results(found: Evidence) -> Evidence:
    return replace(found, objects={job: set() for job in found.objects})


def orphan_container(found: Evidence) -> Evidence:
    return replace(found, containers=["/job-left-1"])


def orphan_network(found: Evidence) -> Evidence:
    return replace(found, networks=[*found.networks, "jobyard-another"])


def orphan_volume(found: Evidence) -> Evidence:
    return replace(found, volumes=["left"])


def orphan_folder(found: Evidence) -> Evidence:
    return replace(found, folders=["volumes/a-job/1"])


def quota_not_given_back(found: Evidence) -> Evidence:
    return replace(found, quota_used=1)


def unended(found: Evidence) -> Evidence:
    return replace(found, states=found.states | {_first_job(found): "RUNNING"})


def orphan_process(found: Evidence) -> Evidence:
    return replace(found, shims=[4711])


def billed_twice(found: Evidence) -> Evidence:
    return replace(found, billed=[*found.billed, found.billed[0]])


def a_minute_too_many(found: Evidence) -> Evidence:
    first, *others = found.bills
    return replace(found, bills=[changed(first, minutes=first.minutes + 1), *others])


def no_line(found: Evidence) -> Evidence:
    run = next(bill for bill in found.bills if bill.minutes)
    return replace(found, bills=[bill for bill in found.bills if bill is not run])


def event_shown_twice(found: Evidence) -> Evidence:
    return replace(found, frames=[*found.frames, found.frames[-1]])


def event_not_shown(found: Evidence) -> Evidence:
    return replace(found, frames=found.frames[:3] + found.frames[4:])


def ended_otherwise(found: Evidence) -> Evidence:
    """A job that should have been DONE, and neither its engine's end nor an order explains it."""
    job = _first_job(found)
    answers = [changed(answer, kind="fails") if answer.job == job else answer for answer in found.answers]
    return replace(found, answers=answers, outages=[])


def unknown_without_cause(found: Evidence) -> Evidence:
    """A job that failed by itself, and is credited as one whose start was cut off: its engine was there."""
    job = _first_job(found)
    group = [event for event in found.events if str(event.job) == job]
    end = next(event for event in group if isinstance(event.body, RunExited))
    fault = Fault("planted", end.position, end.occurred_at)
    failed = changed(end, body=changed(end.body, exit_code=1, unknown=True, outcome=State.FAILED))
    return replace(
        found,
        events=[failed if event is end else event for event in found.events],
        bills=[changed(bill, fault=fault) if str(bill.job) == job else bill for bill in found.bills],
        outages=[each for each in found.outages if each.part != "engine"],
    )


#: The bug, and how what the oracle says of it begins.
_PLANTED: dict[Callable[[Evidence], Evidence], str | Callable[[Evidence], str]] = {
    lost_job: "lost: JobSubmitted",
    lost_order: "lost: JobDeleted",
    submitted_twice: "twice: JobSubmitted",
    started_twice: "twice: run",
    started_twice_as_its_engine_says: "twice: run",
    an_engine_that_says_nothing: "unheard: run",
    a_kill_of_nobody: "nobody killed",
    silent: "lost: run",
    started_twice_in_the_store: "twice: job",
    lost_results: "lost: job",
    orphan_container: "orphan: container",
    orphan_network: "orphan: network",
    orphan_volume: "orphan: volume",
    orphan_folder: "orphan: folder",
    quota_not_given_back: "orphan: 1 CPUs",
    unended: "job ",
    orphan_process: "orphan: process",
    billed_twice: "billed twice",
    a_minute_too_many: "billed wrong",
    no_line: "lost: run",
    event_shown_twice: "the stream is not the ledger",
    event_not_shown: "the stream is not the ledger",
    ended_otherwise: "run ",
    # Whoever else is credited has lost his engine as well.
    unknown_without_cause: lambda found: f"run {RunOf(_first_job(found), 1)} is credited",
}


def unseen(found: Evidence) -> list[str]:
    """Which of the bugs the oracle does not find in the evidence of a campaign that went well."""
    return [
        bug.__name__
        for bug, told in _PLANTED.items()
        if not any(
            fault.startswith(told if isinstance(told, str) else told(found)) for fault in faults(bug(found))
        )
    ]

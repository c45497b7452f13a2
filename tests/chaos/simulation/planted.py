"""Bugs as they could be made, one at a time, and how many seeds the simulation may take to find each."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any
from unittest.mock import patch
from uuid import UUID

import asyncpg
from msgspec.structs import replace

from projections import quota
from projections.catalogue import FOLDS
from service.api import call, idempotency, jobs
from service.api.call import endpoint
from service.api.idempotency import CommandId
from service.api.routes import ROUTES
from service.domain import states
from service.errors import Rejected
from service.ledger import commit as committing
from service.ledger.batch import Batch
from service.ledger.commit import Receipt
from service.ledger.writer import Writer
from service.supervisor import container
from service.supervisor.admission import Admission
from service.supervisor.effects import FatalForRun
from service.supervisor.names import RunId, container_name
from service.supervisor.steps import Steps
from service.supervisor.waits import Waits
from tests.chaos.simulation import api, process
from tests.chaos.simulation.docker import SimEngine
from tests.chaos.simulation.untrue import UNTRUE, Plant


@contextmanager
def stale_epochs_are_taken() -> Iterator[None]:
    """The epoch of a command is not compared with that of the lease."""
    context = Batch._context

    def blind(self: Batch, command: Any) -> Any:
        found = context(self, command)
        return replace(found, epoch=getattr(command, "epoch", None))

    with patch.object(Batch, "_context", blind):
        yield


@contextmanager
def quota_is_back_at_running() -> Iterator[None]:
    """Quota is given back as soon as the run is RUNNING."""
    with patch.object(
        quota, "units_counted",
        lambda s, t, units: states.units_counted(s, t, units) if str(t) != "RUNNING" else -units,
    ):  # fmt: skip
        yield


@contextmanager
def unknown_commits_are_repeated() -> Iterator[None]:
    """After a lost commit the writer does not look whether its commands are there."""

    async def none(*_: Any) -> dict[Any, Any]:
        return {}

    with patch.object(committing, "_earlier", none):
        yield


@contextmanager
def removed_before_recorded() -> Iterator[None]:
    """A container that has ended is removed before its exit is in the ledger."""
    report = Steps._report_exit

    async def early(self: Steps, job: Any, found: Any, **how: Any) -> None:
        await container.put_away(self._yard, self._run, found)
        await report(self, job, found, **how)

    with patch.object(Steps, "_report_exit", early):
        yield


@contextmanager
def a_lost_container_is_made_again() -> Iterator[None]:
    """Whoever finds a run PENDING does not look for its container, and takes another name if one is taken."""

    async def anew(yard: Any, job: Any) -> Any:
        run = RunId(job.id, job.run)
        for attempt in range(1, 10):
            name = container_name(yard.ledger_id, run, attempt)
            spec = await container.specification(yard, job, name)
            if await yard.engine.find(spec.name) is None:
                break
        await yard.engine.ensure_network(*container._network(yard, job))
        made = await yard.engine.create(spec)
        await yard.still_ours()
        await yard.engine.start(made)
        return await container.must_find(yard, run, made), True

    with patch.object(container, "create_and_start", anew):
        yield


@contextmanager
def minutes_are_billed_twice() -> Iterator[None]:
    """A bill counts its minutes twice."""
    fold = FOLDS["billing"]

    def twice(row: Any, event: Any) -> Any:
        after = fold.evolve(row, event)
        fresh = after.minutes and (row is None or not row.minutes)
        return replace(after, minutes=2 * after.minutes) if fresh else after

    planted = dataclasses.replace(fold, evolve=twice)
    with patch.dict(FOLDS, billing=planted):
        yield


@contextmanager
def nobody_looks_again() -> Iterator[None]:
    """A run is looked at when an event of the engine says so, and never otherwise."""

    async def only_signals(self: Waits, _seconds: float) -> None:
        await self._signal.wait()

    with patch.object(Waits, "wait", only_signals):
        yield


@contextmanager
def what_others_made_is_started() -> Iterator[None]:
    """Whoever takes over starts a container that the one before may still be about to start."""
    with (
        patch.object(container, "_may_be_started_by_others", lambda *_: False),
        # Half of all supervisors are stopped right there: by itself it happens in one of some thousand seeds.
        patch.object(process, "STOPPED_MORE", 1000),
    ):
        yield


@contextmanager
def begun_in_the_last_moment() -> Iterator[None]:
    """No bug: what is put away as never begun is begun right before, by one that was stopped in front of it.

    By itself that happens in one of many thousand seeds.
    """
    remove = SimEngine.remove

    async def late(self: SimEngine, container_id: str, *, force: bool = False) -> None:
        fake = self._look_up(container_id)
        if not force and fake is not None and fake.state == "created":
            await self.start(container_id)
            self._finish(container_id, 0)
        await remove(self, container_id, force=force)

    with patch.object(SimEngine, "remove", late), patch.object(process, "STOPPED_MORE", 1000):
        yield


@contextmanager
def what_was_fenced_passes_for_well() -> Iterator[None]:
    """A run that was begun in the last moment before it was put away is FAILED, as if its end were known."""
    lost = container.lost

    def theirs(run: RunId) -> FatalForRun:
        return FatalForRun(lost(run).info)

    with patch.object(container, "lost", theirs), begun_in_the_last_moment():
        yield


@contextmanager
def a_full_node_takes_runs() -> Iterator[None]:
    """Runs are placed as if the node's disk were never full."""

    async def always(self: Admission) -> None:
        await self._tell()

    with patch.object(Admission, "now", always), patch.object(Admission, "stopped", None):
        yield


@contextmanager
def acknowledged_before_the_commit() -> Iterator[None]:
    """What was decided is answered, also when nobody knows whether it was committed."""
    carry_out, write = Batch.carry_out, Writer._write
    decided: dict[UUID, Any] = {}

    def remembered(self: Batch, submission: Any) -> Any:
        outcome = decided[submission.id] = carry_out(self, submission)
        return outcome

    async def hasty(self: Writer, submissions: Any) -> Any:
        try:
            return await write(self, submissions)
        except asyncpg.ConnectionDoesNotExistError:
            self._cut()
            self._remembered.forget()
            said = [decided[each.id] for each in submissions]
            return [
                each if isinstance(each, Rejected) else Receipt(tuple(each), each[-1].position if each else 0)
                for each in said
            ]

    with patch.object(Batch, "carry_out", remembered), patch.object(Writer, "_write", hasty):
        yield


@contextmanager
def keys_are_remembered_by_each_process_alone() -> Iterator[None]:
    """The id of a key's command is made up by the process that is asked first, and kept in its memory."""
    made = count()
    known: dict[tuple[int, str], UUID] = {}
    command_id = idempotency.command_id

    async def own(request: Any, body: bytes, token: Any, ledger: Any) -> CommandId:
        found = await command_id(request, body, token, ledger)
        key = (id(ledger), request.headers[idempotency.HEADER])
        return CommandId(known.setdefault(key, UUID(int=next(made))), found.digest, found.parts)

    with patch.object(call, "command_id", own):
        yield


@contextmanager
def repeats_are_compared_by_what_differs() -> Iterator[None]:
    """What tells a repeat from another request holds the name of the attempt."""
    command_id = idempotency.command_id

    async def narrow(request: Any, body: bytes, token: Any, ledger: Any) -> CommandId:
        return await command_id(request, body + request.headers["X-Request-Id"].encode(), token, ledger)

    with patch.object(call, "command_id", narrow):
        yield


@contextmanager
def a_repeat_shows_the_job_of_now() -> Iterator[None]:
    """A repeated submit is answered with the job as it is, and not as it was when it was made."""
    submit = jobs.submit

    async def now(of: Any) -> Any:
        answer = await submit(of)
        found = await of.ledger.job_now(UUID(answer.id))
        return jobs._view(of, found[0], found[1], None)

    with patch.dict(api.HANDLERS, {("POST", api.JOBS): endpoint(_submit(now))}):
        yield


def _submit(handler: Any) -> Any:
    return next(route for route in ROUTES if route.handler is jobs.submit)._replace(handler=handler)


#: Each bug, the seeds one of which must find it, and the words that tell what it broke.
PLANTED: dict[Plant, tuple[range, str]] = {
    stale_epochs_are_taken: (range(150), "has a stale epoch"),
    quota_is_back_at_running: (range(20), "quota says"),
    unknown_commits_are_repeated: (range(100), "was carried out twice"),
    removed_before_recorded: (range(20), "its exit is not recorded"),
    a_lost_container_is_made_again: (range(100), "a second container"),
    minutes_are_billed_twice: (range(20), "the bill of"),
    nobody_looks_again: (range(50), "never settled"),
    what_others_made_is_started: (range(140, 400), "a second container"),
    what_was_fenced_passes_for_well: (range(61, 120), "was fenced"),
    a_full_node_takes_runs: (range(50), "whose disk is full"),
    acknowledged_before_the_commit: (range(50), "is acknowledged with events"),
    keys_are_remembered_by_each_process_alone: (range(50), "was carried out by"),
    repeats_are_compared_by_what_differs: (range(50), "had been carried out"),
    a_repeat_shows_the_job_of_now: (range(50), "was answered"),
    **UNTRUE,
}

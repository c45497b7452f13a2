"""Deciding what the supervisor reports of a run: observations go in, moves come out."""

from __future__ import annotations

from datetime import timedelta

from msgspec.structs import replace

from service.domain import commands as cmd
from service.domain import events as ev
from service.domain.context import Context, Decision, for_job, move, observed, past_timeout
from service.domain.decide_job import job_of, quota_of
from service.domain.job import Job
from service.domain.states import ENDED, PLACED, STOPPING, State
from service.domain.verdicts import LEAST, beyond_storage, ended_before, verdict
from service.errors import WrongState

NOT_RESTARTED = ev.Info(
    "not-restarted",
    "The job's timeout was reached; the project's quota leaves no room to restart it.",
)
BUDGET_SPENT = ev.Info(
    "not-restarted-budget",
    "The job's timeout was reached; it is not restarted, as the project's budget of the month is used up.",
)


def decide(command: cmd.RunCommand, context: Context) -> list[Decision]:
    job = job_of(command, context)
    if command.run != job.run:
        raise WrongState(f"job {job.id}: run {command.run} is over; run {job.run} is current")
    match command:
        case cmd.PlaceRun():
            return _placed(job, command, context)
        case cmd.NoteRun():
            return _noted(job, command, context)
        case cmd.AdoptRun():
            return _adopted(job, command, context)
        case cmd.ReportPrepared():
            _require(job, "is prepared", State.INITIALIZING)
            return for_job(job, context.now, ev.RunPrepared(**move(job, State.PENDING)))
        case cmd.ReportStarted():
            return _started(job, command, context)
        case cmd.ReportTimeout():
            return _timeout(job, context)
        case cmd.ReportStorageExceeded():
            return _too_much_storage(job, command, context)
        case cmd.ReportExited():
            return _exited(job, command, context)
        case cmd.AbortRun():
            return _aborted(job, command, context)
        case cmd.FailRun():
            return _failed(job, command, context)
        case cmd.FinalizeRun():
            return _finalized(job, command, context)
        case cmd.ReportDataSync():
            return _synced(job, command, context)
        case _:
            raise TypeError(f"no rule for {type(command).__name__}")


def _require(job: Job, what: str, *states: State) -> None:
    if job.state not in states:
        raise WrongState(f"job {job.id}: it {what}, but is {job.state}, not {' or '.join(states)}")


def _placed(job: Job, command: cmd.PlaceRun, context: Context) -> list[Decision]:
    _require(job, "is placed", State.QUEUED)
    flavor = job.spec.resources.flavor
    price = context.prices.price(flavor, context.now)
    if price is None:
        raise WrongState(f"job {job.id}: no price is in force for flavor {flavor}")
    body = ev.RunPlaced(
        **move(job, State.INITIALIZING),
        engine=command.engine,
        node=command.node,
        epoch=command.epoch,
        flavor=flavor,
        hourly_price=price[0],
        currency=price[1],
        gpus=command.gpus,
    )
    return for_job(job, context.now, body)


def _noted(job: Job, command: cmd.NoteRun, context: Context) -> list[Decision]:
    _require(job, "has news", *(set(State) - ENDED))
    if job.info == command.info:
        return []
    return for_job(job, context.now, ev.RunNoted(info=command.info))


def _adopted(job: Job, command: cmd.AdoptRun, context: Context) -> list[Decision]:
    _require(job, "is adopted", *PLACED)
    # All of it, also what lies before the run's last move: an order may have come while nobody was there.
    since = max(job.initializing_at or job.last_transition_at, min(command.absent_since, context.now))
    body = ev.RunAdopted(engine=command.engine, epoch=command.epoch, absent_since=since)
    return for_job(job, context.now, body)


def _started(job: Job, command: cmd.ReportStarted, context: Context) -> list[Decision]:
    _require(job, "has started", State.PENDING)
    at = observed(command.started_at, job, context.now)
    body = ev.RunStarted(
        **move(job, State.RUNNING),
        container_id=command.container_id,
        image_id=command.image_id,
        image_digest=command.image_digest,
        ip=command.ip,
        timeout_at=at + timedelta(seconds=job.spec.timeout),
    )
    return for_job(job, at, body)


def _timeout(job: Job, context: Context) -> list[Decision]:
    _require(job, "has timed out", State.RUNNING)
    if job.timeout_at is None or context.now < job.timeout_at:
        raise WrongState(f"job {job.id}: its timeout is at {job.timeout_at}, which is not yet")
    at = observed(job.timeout_at, job, context.now)
    return for_job(job, at, ev.TimeoutReached(**move(job, State.TIMEOUT)))


def _too_much_storage(job: Job, command: cmd.ReportStorageExceeded, context: Context) -> list[Decision]:
    """The run is stopped for it, unless it is being stopped already: whatever came first is the reason."""
    if job.storage_used is not None and job.state is State.INTERRUPTING:
        return []
    job, decided = past_timeout(job, context.now, context.now)
    if decided:
        return decided
    _require(job, "takes too much storage", State.RUNNING)
    limit = job.spec.resources.ephemeral_storage
    if command.used_bytes <= limit:
        raise WrongState(f"job {job.id}: it takes {command.used_bytes} bytes and may take {limit}")
    body = ev.StorageExceeded(
        **move(job, State.INTERRUPTING),
        used_bytes=command.used_bytes,
        limit_bytes=limit,
        info=beyond_storage(job, command.used_bytes),
    )
    return for_job(job, context.now, body)


def _exited(job: Job, command: cmd.ReportExited, context: Context) -> list[Decision]:
    _require(job, "has exited", State.RUNNING, *STOPPING)
    ended = command.finished_at
    if command.unknown and command.engine_away_since is not None:
        ended = command.engine_away_since  # the engine dates what it missed by when it was back
    at = observed(ended, job, context.now)
    if job.state is State.RUNNING and at == job.last_transition_at:
        # Docker can date the end of a process a millisecond before its start. It did run: not for no time.
        at = min(at + LEAST, context.now)
    job, decided = past_timeout(job, at, context.now)
    ended_at = ended_before(job, command)
    unordered = replace(job, timed_out=False, storage_used=None, interrupt_ordered=False)
    outcome, info = verdict(job if ended_at is None else unordered, command)
    body = ev.RunExited(
        **move(job, State.FINALIZING),
        exit_code=command.exit_code,
        oom_killed=command.oom_killed,
        outcome=outcome,
        info=info,
        engine_away_since=command.engine_away_since,
        unknown=command.unknown,
        stopped_outside=command.stopped_outside,
        ended_at=ended_at,
    )
    return decided + for_job(job, at, body)


def _aborted(job: Job, command: cmd.AbortRun, context: Context) -> list[Decision]:
    _require(job, "cannot go on", State.INITIALIZING, State.PENDING, State.INTERRUPTING)
    stopped = job.interrupt_ordered and job.storage_used is None
    outcome = State.INTERRUPTED if stopped else State.FAILED
    body = ev.RunAborted(**move(job, State.FINALIZING), outcome=outcome, info=command.info)
    return for_job(job, context.now, body)


def _failed(job: Job, command: cmd.FailRun, context: Context) -> list[Decision]:
    _require(job, "failed through our fault", *(set(State) - ENDED))
    body = ev.RunErrored(**move(job, State.ERROR), info=command.info, volumes_kept=command.volumes_kept)
    return _ending(job, context, body)


def _finalized(job: Job, command: cmd.FinalizeRun, context: Context) -> list[Decision]:
    _require(job, "is finalized", State.FINALIZING)
    outcome = job.outcome or State.FAILED
    restart_wanted = (
        job.timed_out
        and outcome is State.INTERRUPTED
        and job.spec.timeout_auto_restart
        and not job.interrupt_ordered
        and command.problem is None
    )
    verdict = job.verdict or job.info
    info = command.problem or verdict
    if command.problem is not None and job.storage_used is not None and outcome is State.FAILED:
        # What did not fit on the node may be too much to push as well: the cause goes before what followed.
        info = _with_remark(verdict, command.problem)
    if restart_wanted:
        refused = _not_again(job, context)
        if refused is None:
            queued = ev.Info("restarted", "The job's timeout was reached and it was queued again.")
            body = ev.RunQueued(**move(job, State.QUEUED), info=queued)
            return for_job(job, context.now, body, run=job.run + 1)
        info = refused
    if command.problem is not None:
        outcome = State.FAILED
    if command.remark is not None:
        info = _with_remark(info, command.remark)
    body_done = ev.RunFinalized(**move(job, outcome), info=info, volumes_kept=command.volumes_kept)
    return _ending(job, context, body_done)


def _not_again(job: Job, context: Context) -> ev.Info | None:
    """Why a job that restarts at its timeout does not; None when it does."""
    resources = job.spec.resources
    if not quota_of(context, job.project).admits(resources.kind, resources.units):
        return NOT_RESTARTED
    price = context.prices.price(resources.flavor, context.now)
    if context.budget is not None and price is not None and not context.budget.admits(price[1]):
        return BUDGET_SPENT
    return None


def _with_remark(info: ev.Info, remark: ev.Info) -> ev.Info:
    return ev.Info(info.code, f"{info.message} {remark.message}", info.arguments | remark.arguments)


def _ending(job: Job, context: Context, body: ev.Move) -> list[Decision]:
    """The last move of a run, and the deletion that was ordered with its interrupt."""
    bodies: list[ev.Body] = [body]
    if job.delete_when_ended:
        bodies.append(ev.JobDeleted())
    return for_job(job, context.now, *bodies)


def _synced(job: Job, command: cmd.ReportDataSync, context: Context) -> list[Decision]:
    body = ev.DataSyncMoved(
        sync_id=command.sync_id,
        direction=command.direction,
        state=command.state,
        volumes=command.volumes,
        manual=command.manual,
        message=command.message,
    )
    return for_job(job, context.now, body)

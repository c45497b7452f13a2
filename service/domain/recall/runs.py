"""Back to what a supervisor reported, or wanted, of a run."""

from __future__ import annotations

from service.domain import commands as cmd
from service.domain import events as ev
from service.domain.decide_run import BUDGET_SPENT, NOT_RESTARTED
from service.domain.events import Event
from service.domain.recall.base import Before, Inverse, of_job, of_run
from service.domain.states import State


def _queued(event: Event, before: Before) -> cmd.Command:
    """Started again by its user, or by the end of a run that had timed out."""
    if before.job is not None and before.job.state is State.FINALIZING:
        return cmd.FinalizeRun(**of_run(event, before))
    return cmd.StartJob(**of_job(event), discard_volumes=before.job is not None and before.job.volumes_kept)


def _placed(event: Event, before: Before) -> cmd.Command:
    body: ev.RunPlaced = event.body
    return cmd.PlaceRun(**of_run(event, before), node=body.node, gpus=body.gpus)


def _prepared(event: Event, before: Before) -> cmd.Command:
    return cmd.ReportPrepared(**of_run(event, before))


def _started(event: Event, before: Before) -> cmd.Command:
    body: ev.RunStarted = event.body
    return cmd.ReportStarted(
        **of_run(event, before),
        started_at=event.occurred_at,
        container_id=body.container_id,
        image_id=body.image_id,
        image_digest=body.image_digest,
        ip=body.ip,
    )


def _timed_out(event: Event, before: Before) -> cmd.Command:
    """Whoever found it: the timeout is a fact of the clock."""
    return cmd.ReportTimeout(**of_run(event, before))


def _too_large(event: Event, before: Before) -> cmd.Command:
    body: ev.StorageExceeded = event.body
    return cmd.ReportStorageExceeded(**of_run(event, before), used_bytes=body.used_bytes)


def _exited(event: Event, before: Before) -> cmd.Command:
    body: ev.RunExited = event.body
    return cmd.ReportExited(
        **of_run(event, before),
        finished_at=body.ended_at or event.occurred_at,
        exit_code=body.exit_code,
        oom_killed=body.oom_killed,
        engine_away_since=body.engine_away_since,
        unknown=body.unknown,
        stopped_outside=body.stopped_outside,
    )


def _aborted(event: Event, before: Before) -> cmd.Command:
    return cmd.AbortRun(**of_run(event, before), info=event.body.info)


def _errored(event: Event, before: Before) -> cmd.Command:
    body: ev.RunErrored = event.body
    return cmd.FailRun(**of_run(event, before), info=body.info, volumes_kept=body.volumes_kept)


#: What a run's end says of a job that should have restarted at its timeout, by its code.
_NOT_AGAIN = {info.code: info for info in (NOT_RESTARTED, BUDGET_SPENT)}


def _finalized(event: Event, before: Before) -> cmd.Command:
    """With the problem that made it FAILED, or the remark that was added to what the run's end says."""
    body: ev.RunFinalized = event.body
    job, of = before.job, of_run(event, before)
    kept = body.volumes_kept
    if job is None:
        return cmd.FinalizeRun(**of, volumes_kept=kept)
    said = _NOT_AGAIN.get(body.info.code, job.verdict or job.info)
    added = _added(said, body.info)
    problem = body.target is State.FAILED and (added is None or job.outcome not in (None, State.FAILED))
    if problem:
        return cmd.FinalizeRun(**of, volumes_kept=kept, problem=body.info)
    remark = ev.Info("", *added) if added and added[0] else None
    return cmd.FinalizeRun(**of, volumes_kept=kept, remark=remark)


def _noted(event: Event, before: Before) -> cmd.Command:
    return cmd.NoteRun(**of_run(event, before), info=event.body.info)


def _adopted(event: Event, before: Before) -> cmd.Command:
    return cmd.AdoptRun(**of_run(event, before), absent_since=event.body.absent_since)


def _synced(event: Event, before: Before) -> cmd.Command:
    body: ev.DataSyncMoved = event.body
    return cmd.ReportDataSync(
        **of_run(event, before),
        sync_id=body.sync_id,
        direction=body.direction,
        state=body.state,
        volumes=body.volumes,
        manual=body.manual,
        message=body.message,
    )


def _added(said: ev.Info, info: ev.Info) -> tuple[str, dict[str, ev.Value]] | None:
    """The words after those that were said before ("" for none), with their arguments; None for others."""
    if info.code != said.code or not said.arguments.items() <= info.arguments.items():
        return None
    if info.message == said.message:
        return "", {}
    known = f"{said.message} "
    return (info.message.removeprefix(known), info.arguments) if info.message.startswith(known) else None


INVERSES: dict[type[ev.Body], Inverse] = {
    ev.RunQueued: _queued,
    ev.RunPlaced: _placed,
    ev.RunPrepared: _prepared,
    ev.RunStarted: _started,
    ev.TimeoutReached: _timed_out,
    ev.StorageExceeded: _too_large,
    ev.RunExited: _exited,
    ev.RunAborted: _aborted,
    ev.RunFinalized: _finalized,
    ev.RunErrored: _errored,
    ev.RunNoted: _noted,
    ev.RunAdopted: _adopted,
    ev.DataSyncMoved: _synced,
}

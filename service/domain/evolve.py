"""`evolve(job, event) -> job`: the only definition of what an event means for a job."""

from __future__ import annotations

from typing import Any, assert_never
from uuid import UUID

from msgspec.structs import replace

from service.domain import events as ev
from service.domain.events import Event
from service.domain.job import TIMED_OUT, DataSync, Job, SyncOrder, Visit, VolumeMoved, last_moved
from service.domain.notes import in_short
from service.domain.states import ENDED, MEANING, State

#: As many data synchronisations as a job's read shows; the ledger keeps them all.
SYNCS_SHOWN = 20
#: As many visits as a job's row has, the newest: it is written anew, under the head's lock, for each event of
#: the job, and some jobs start again for ever. A run has seven at most; the ledger keeps those of all runs.
VISITS_KEPT = 200
_QUEUED = ev.Info("queued", MEANING[State.QUEUED])

JobBody = (
    ev.JobSubmitted
    | ev.RunQueued
    | ev.RunPlaced
    | ev.RunPrepared
    | ev.RunStarted
    | ev.InterruptOrdered
    | ev.TimeoutReached
    | ev.StorageExceeded
    | ev.RunExited
    | ev.RunAborted
    | ev.RunFinalized
    | ev.RunErrored
    | ev.RunNoted
    | ev.RunAdopted
    | ev.DataSyncMoved
    | ev.PushOrdered
    | ev.SyncOrdered
    | ev.JobEdited
    | ev.LabelSet
    | ev.JobDeleted
    | ev.KeyDestroyed
)


def evolve(job: Job | None, event: Event) -> Job:
    """Apply one event of the job's own history. Events of one job arrive in the order of position."""
    if isinstance(event.body, ev.JobSubmitted):
        return _submitted(event, event.body)
    if job is None:
        raise ValueError(f"event {event.position}: {event.type} of a job that was never submitted")
    changed = replace(job, **_changes(job, event, event.body))
    return replace(changed, position=event.position, updated_at=event.recorded_at)


def _submitted(event: Event, body: ev.JobSubmitted) -> Job:
    if event.job is None or event.run is None or event.project is None:
        raise ValueError(f"event {event.position}: a job needs an id, a run and a project")
    return Job(
        id=event.job,
        project=event.project,
        run=event.run,
        state=body.target,
        spec=body.spec,
        user=body.user,
        token_label=body.token_label,
        created_at=event.recorded_at,
        updated_at=event.recorded_at,
        position=event.position,
        created_position=event.position,
        queued_position=event.position,
        queued_at=event.occurred_at,
        last_transition_at=event.occurred_at,
        info=_QUEUED,
        history=(Visit(body.target, event.occurred_at, event.run, event.position),),
    )


def _changes(job: Job, event: Event, body: JobBody) -> dict[str, Any]:
    """The fields an event changes, by name."""
    match body:
        case ev.JobSubmitted():
            raise ValueError(f"event {event.position}: job {job.id} was submitted already")
        case ev.RunNoted():
            return {"info": body.info}
        case ev.RunAdopted():
            return {"engine": body.engine}
        case ev.DataSyncMoved():
            return _synced(job, event, body)
        case ev.PushOrdered():
            return {"push_ordered": body.sync_id}
        case ev.SyncOrdered():
            order = SyncOrder(body.sync_id, body.direction, body.volume, event.recorded_at)
            return {"sync_orders": (*job.sync_orders, order)}
        case ev.JobEdited():
            edited = replace(job.spec, timeout=body.timeout, timeout_auto_restart=body.timeout_auto_restart)
            return {"spec": edited, "timeout_at": body.timeout_at}
        case ev.LabelSet():
            return {"spec": replace(job.spec, labels=_relabelled(job, body))}
        case ev.JobDeleted():
            return {"deleted": True}
        case ev.KeyDestroyed():
            return {"erased_at": event.occurred_at}
        case ev.Move():
            return _moved(job, event, body)
        case _:
            assert_never(body)


def _relabelled(job: Job, body: ev.LabelSet) -> dict[str, str]:
    """In the order in which a specification has them: by name."""
    labels = {name: value for name, value in job.spec.labels.items() if name != body.name}
    if body.value is not None:
        labels[body.name] = body.value
    return dict(sorted(labels.items()))


def _moved(job: Job, event: Event, body: ev.Move) -> dict[str, Any]:
    changes: dict[str, Any] = {"state": body.target}
    if body.target != job.state:
        visit = Visit(body.target, event.occurred_at, event.run or job.run, event.position)
        history = (*job.history, visit)[-VISITS_KEPT:]
        changes |= {"last_transition_at": event.occurred_at, "history": history}
    if job.state is State.RUNNING and body.target is not State.RUNNING:
        changes["stopped_at"] = event.occurred_at
    if job.state not in ENDED and body.target in (*ENDED, State.QUEUED):
        changes |= _unfinished(job, event)
    return changes | _particular(event, body)


def _unfinished(job: Job, event: Event) -> dict[str, Any]:
    """A run has ended: no data synchronisation of it goes on, and none that waits will begin."""
    syncs = tuple(
        replace(sync, state="FAILED", updated_at=event.recorded_at, message="The run ended before.")
        if sync.state == "RUNNING"
        else sync
        for sync in job.data_syncs
    )
    return {"data_syncs": syncs, "sync_orders": ()}


def _particular(event: Event, body: ev.Move) -> dict[str, Any]:
    """What each kind of move changes beside the state."""
    at = event.occurred_at
    match body:
        case ev.RunQueued():
            return _FRESH_RUN | {
                "run": event.run,
                "info": body.info,
                "queued_at": at,
                "queued_position": event.position,
            }
        case ev.RunPlaced():
            return {
                "initializing_at": at,
                "engine": body.engine,
                "node": body.node,
                "gpus": body.gpus,
                "info": ev.Info("initializing", MEANING[State.INITIALIZING]),
            }
        case ev.RunPrepared():
            return {"pending_at": at, "info": ev.Info("pending", MEANING[State.PENDING])}
        case ev.RunStarted():
            return {
                "started_at": at,
                "timeout_at": body.timeout_at,
                "container_id": body.container_id,
                "image_digest": body.image_digest,
                "ip": body.ip,
                "info": ev.Info("running", MEANING[State.RUNNING]),
            }
        case ev.InterruptOrdered():
            ended = {"finalized_at": at} if body.target is State.INTERRUPTED else {}
            return {
                "interrupt_ordered": True,
                "delete_when_ended": body.then_delete,
                "info": body.info,
            } | ended
        case ev.TimeoutReached():
            return {"timed_out": True, "info": TIMED_OUT}
        case ev.StorageExceeded():
            return {"storage_used": body.used_bytes, "info": body.info}
        case ev.RunExited():
            stopped = {} if body.ended_at is None else {"stopped_at": body.ended_at}
            return stopped | {
                "exit_code": body.exit_code,
                "oom_killed": body.oom_killed,
                "outcome": body.outcome,
                "info": body.info,
                "verdict": body.info,
            }
        case ev.RunAborted():
            return {"outcome": body.outcome, "info": body.info, "verdict": body.info}
        case ev.RunFinalized():
            return {"finalized_at": at, "info": body.info, "volumes_kept": body.volumes_kept}
        case ev.RunErrored():
            kept = body.volumes_kept
            return {"finalized_at": at, "info": body.info, "outcome": State.ERROR, "volumes_kept": kept}
        case _:
            raise ValueError(f"event {event.position}: no rule for {event.type}")


#: What a new run starts without.
_FRESH_RUN: dict[str, Any] = {
    "initializing_at": None,
    "pending_at": None,
    "started_at": None,
    "stopped_at": None,
    "finalized_at": None,
    "timeout_at": None,
    "exit_code": None,
    "oom_killed": False,
    "outcome": None,
    "verdict": None,
    "timed_out": False,
    "interrupt_ordered": False,
    "storage_used": None,
    "engine": None,
    "node": None,
    "gpus": (),
    "container_id": None,
    "image_digest": None,
    "ip": None,
    "volumes_kept": False,
    "push_ordered": None,
}


def _synced(job: Job, event: Event, body: ev.DataSyncMoved) -> dict[str, Any]:
    known = next((sync for sync in job.data_syncs if sync.id == body.sync_id), None)
    order = next((order for order in job.sync_orders if order.id == body.sync_id), None)
    sync = DataSync(
        id=body.sync_id,
        direction=body.direction,
        manual=body.manual,
        run=event.run or job.run,
        state=body.state,
        created_at=known.created_at if known else event.recorded_at,
        updated_at=event.recorded_at,
        volumes=body.volumes,
        message=body.message,
        volume=known.volume if known else order.volume if order else None,
    )
    others = tuple(other for other in job.data_syncs if other.id != body.sync_id)
    changes: dict[str, Any] = _shown(job, (*others, sync))
    if body.state != "RUNNING":
        changes["sync_orders"] = tuple(order for order in job.sync_orders if order.id != body.sync_id)
    if body.sync_id == job.push_ordered and body.state != "RUNNING":
        changes["push_ordered"] = None
        changes["volumes_kept"] = job.volumes_kept and body.state != "DONE"
        if body.state == "DONE":
            message = f"{job.info.message} Its data was pushed again since, {_arrived(body)}."
            changes["info"] = ev.Info(job.info.code, message, job.info.arguments)
    return changes


def _shown(job: Job, syncs: tuple[DataSync, ...]) -> dict[str, Any]:
    """The last synchronisations, and what they do not tell of those before them."""
    gone, shown = syncs[:-SYNCS_SHOWN], syncs[-SYNCS_SHOWN:]
    if not gone:
        return {"data_syncs": shown}
    told = last_moved((), shown)
    unsaid = {what: at for what, at in last_moved(job.moved_before, gone).items() if what not in told}
    return {"data_syncs": shown, "moved_before": tuple(VolumeMoved(*what, at) for what, at in unsaid.items())}


def _arrived(body: ev.DataSyncMoved) -> str:
    count = sum(volume.count_left_out for volume in body.volumes)
    if not count:
        return "and all of it arrived"
    reasons = [reason for volume in body.volumes for reason in volume.reasons]
    return f"but not everything was pushed: {in_short(reasons, count)}"


def history_of(events: list[Event]) -> dict[UUID, Job]:
    """Fold a list of events from the beginning of their jobs."""
    jobs: dict[UUID, Job] = {}
    for event in events:
        if event.job is not None and type(event.body) in ev.JOB_BODIES:
            jobs[event.job] = evolve(jobs.get(event.job), event)
    return jobs

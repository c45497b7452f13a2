"""From what the ledger knows of a job to what a read of it answers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from msgspec import UNSET

from service.api import wire
from service.domain import events as ev
from service.domain import job as domain
from service.domain import job_names
from service.domain import spec as ds
from service.domain.directory import UserVolume
from service.domain.evolve import VISITS_KEPT
from service.domain.ids import text_of
from service.domain.states import State
from service.vault import Secret

#: What was sealed, in the clear; None for what was erased.
Secrets = Mapping[ds.Sealed, Secret | None]

#: When volumes moved, by their index and the direction.
_Moved = Mapping[tuple[int, ev.Direction], datetime]

#: States in which the container may run and answer.
_REACHABLE = frozenset({State.RUNNING, State.INTERRUPTING, State.TIMEOUT})


def job(
    found: domain.Job,
    *,
    now: datetime,
    secrets: Secrets | None,
    public_url: str,
    job_domain: str,
    ssh_address: str = "",
) -> wire.Job:
    """The wire's job. `now` is the database's clock; without `secrets` the values of `envVars` stay empty."""
    job_id = text_of(found.id)
    return wire.Job(
        id=job_id,
        created_at=found.created_at,
        updated_at=found.updated_at,
        user=found.user,
        spec=spec(found.spec, secrets),
        status=_status(found, job_id, now, public_url, job_domain, ssh_address),
    )


def spec(of: ds.JobSpec, secrets: Secrets | None) -> wire.JobSpec:
    return wire.JobSpec(
        image=of.image,
        name=of.name,
        command=of.command,
        env_vars=[_variable(var, secrets) for var in of.env],
        volumes=[_volume(volume) for volume in of.volumes],
        resources=_resources(of.resources),
        labels=of.labels,
        timeout=of.timeout,
        timeout_auto_restart=of.timeout_auto_restart,
        default_http_port=of.default_http_port,
        unsecure_http=of.unsecure_http,
        grpc_port=of.grpc_port or UNSET,
        read_user=of.read_user or UNSET,
        shutdown=of.shutdown or UNSET,
        ssh_public_keys=of.ssh_public_keys,
    )


def _variable(var: ds.EnvVar, secrets: Secrets | None) -> wire.EnvVar:
    """With its value, for those who may see it, as long as the key that sealed it exists."""
    if secrets is None:
        return wire.EnvVar(name=var.name, value="")
    value = secrets[var.value]
    return wire.EnvVar(name=var.name, value=str(value or ""), erased=True if value is None else UNSET)


def _volume(volume: ds.Volume) -> wire.Volume:
    return wire.Volume(
        mount_path=volume.mount_path,
        permission=str(volume.permission),
        cache=volume.cache,
        target_data_store=_place(volume.target) if volume.target else UNSET,
        **source(volume),
    )


def source(of: ds.Volume | UserVolume) -> dict[str, Any]:
    """The one field that names a volume's source, as it was asked."""
    if isinstance(of, ds.Volume) and of.user_volume is not None:
        return {"user_volume_id": of.user_volume}
    if of.source is not None:
        return {"data_store": _place(of.source)}
    if of.git is not None:
        return {"public_git": wire.Url(url=of.git)}
    if of.url is not None:
        return {"public_swift": wire.Url(url=of.url)}
    return {"standalone": wire.Standalone()}


def user_volume(of: UserVolume) -> wire.UserVolume:
    return wire.UserVolume(
        id=of.id, cache=of.cache, created_at=of.created_at, updated_at=of.updated_at, **source(of)
    )


def _place(place: ds.Place) -> wire.Place:
    return wire.Place(
        alias=place.alias, container=place.container, prefix=place.prefix or UNSET, archive=place.archive
    )


def _resources(of: ds.Resources) -> wire.Resources:
    return wire.Resources(
        cpu=of.units if of.kind == "cpu" else of.cpus,
        gpu=of.gpus,
        flavor=of.flavor,
        memory=of.memory,
        ephemeral_storage=of.ephemeral_storage,
        public_network=of.public_network,
        private_network=of.private_network,
        gpu_brand=of.gpu_brand or UNSET,
        gpu_model=of.gpu_model or UNSET,
        gpu_memory=of.gpu_memory or UNSET,
    )


def _status(
    found: domain.Job, job_id: str, now: datetime, public_url: str, job_domain: str, ssh_address: str
) -> wire.JobStatus:
    reachable = found.ip is not None and found.state in _REACHABLE
    grpc = found.spec.grpc_port
    moved = domain.last_moved(found.moved_before, found.data_syncs)
    return wire.JobStatus(
        state=found.state,
        history=[wire.Visit(state=visit.state, date=visit.date) for visit in found.history[-VISITS_KEPT:]],
        queued_at=found.queued_at,
        initializing_at=found.initializing_at,
        started_at=found.started_at,
        stopped_at=found.stopped_at,
        finalized_at=found.finalized_at,
        timeout_at=found.timeout_at,
        last_transition_date=found.last_transition_at,
        duration=duration_s(found, now),
        exit_code=found.exit_code,
        image_digest=found.image_digest,
        info=_info(found.info),
        ip=found.ip,
        external_ip=None,
        url=job_names.url(job_id, public_url, job_domain),
        ssh_url=f"ssh://{job_id}@{ssh_address}" if ssh_address and found.spec.ssh_public_keys else None,
        info_url=f"{public_url}/v1/job/{job_id}",
        grpc_address=f"{found.ip}:{grpc}" if reachable and grpc else "",
        data_sync=_syncs(found, moved),
        volumes=[_volume_status(found, moved, index) for index in range(len(found.spec.volumes))],
        run=found.run,
        erased_at=found.erased_at or UNSET,
    )


def duration_s(found: domain.Job, now: datetime) -> int:
    """How long the job has run, in whole seconds: all that an answer about it takes from the clock."""
    if found.started_at is None:
        return 0
    return max(0, int(((found.stopped_at or now) - found.started_at).total_seconds()))


def _info(info: ev.Info) -> wire.Info:
    return wire.Info(code=info.code, message=info.message, arguments=info.arguments)


def volume_id(job_id: UUID, index: int) -> str:
    """The id of a job's volume, by its index in the specification."""
    return str(uuid5(job_id, f"volume/{index}"))


def _volume_status(found: domain.Job, moved: _Moved, index: int) -> wire.VolumeStatus:
    return wire.VolumeStatus(
        id=volume_id(found.id, index),
        mount_path=found.spec.volumes[index].mount_path,
        user_volume_id=found.spec.volumes[index].user_volume or "",
        last_pulled_created_at=moved.get((index, "pull")),
        last_pushed_created_at=moved.get((index, "push")),
    )


def _syncs(found: domain.Job, moved: _Moved) -> list[wire.DataSync]:
    """Those that began, in that order, and those that were ordered and wait."""
    if not found.data_syncs and not found.sync_orders and found.push_ordered is None:
        return []
    begun = {sync.id for sync in found.data_syncs}
    waiting = [_queued(found.id, order) for order in found.sync_orders if order.id not in begun]
    if found.push_ordered is not None and found.push_ordered not in begun:
        # As an ended job is left alone, the order is what happened to it last.
        order = domain.SyncOrder(found.push_ordered, "push", None, found.updated_at)
        waiting.append(_queued(found.id, order, _AGAIN))
    return [_data_sync(found, moved, sync) for sync in found.data_syncs] + waiting


def _data_sync(found: domain.Job, moved: _Moved, sync: domain.DataSync) -> wire.DataSync:
    return wire.DataSync(
        id=sync.id,
        created_at=sync.created_at,
        updated_at=sync.updated_at,
        spec=wire.DataSyncSpec(
            direction=sync.direction,
            job_id=str(found.id),
            manual=sync.manual,
            volume=None if sync.volume is None else volume_id(found.id, sync.volume),
        ),
        status=wire.DataSyncStatus(
            state=sync.state,
            queued_at=sync.created_at,
            started_at=sync.created_at,
            ended_at=None if sync.state == "RUNNING" else sync.updated_at,
            info=wire.Info(code=sync.state.lower(), message=sync.message, arguments={}),
            progress=[_progress(found, moved, sync, each) for each in sync.volumes],
        ),
    )


def _progress(
    found: domain.Job, moved: _Moved, sync: domain.DataSync, of: ev.VolumeProgress
) -> wire.Progress:
    return wire.Progress(
        id=str(uuid5(found.id, f"sync/{sync.id}/{of.volume}")),
        data_sync_id=sync.id,
        direction=sync.direction,
        state=of.state,
        total=of.total,
        processed=of.processed,
        completed=of.completed,
        skipped=of.skipped,
        failed=of.failed,
        deleted=of.deleted,
        transferred_bytes=of.transferred_bytes,
        info="; ".join(of.notes),
        job_volume=_volume(found.spec.volumes[of.volume]),
        volume_status=_volume_status(found, moved, of.volume),
        created_at=sync.created_at,
        updated_at=sync.updated_at,
    )


def sync_ordered(of: domain.Job, event: ev.Event) -> wire.DataSync:
    """The data synchronisation that an event asks for, before the supervisor has begun it."""
    body: ev.PushOrdered | ev.SyncOrdered = event.body
    again = isinstance(body, ev.PushOrdered)
    order = domain.SyncOrder(
        id=body.sync_id,
        direction="push" if isinstance(body, ev.PushOrdered) else body.direction,
        volume=None if isinstance(body, ev.PushOrdered) else body.volume,
        ordered_at=event.recorded_at,
    )
    return _queued(of.id, order, _AGAIN if again else _WAITS)


_WAITS = "It was ordered and is about to begin."
_AGAIN = "The kept volumes are to be pushed again."


def _queued(job_id: UUID, order: domain.SyncOrder, message: str = _WAITS) -> wire.DataSync:
    return wire.DataSync(
        id=order.id,
        created_at=order.ordered_at,
        updated_at=order.ordered_at,
        spec=wire.DataSyncSpec(
            direction=order.direction,
            job_id=str(job_id),
            manual=True,
            volume=None if order.volume is None else volume_id(job_id, order.volume),
        ),
        status=wire.DataSyncStatus(
            state="QUEUED",
            queued_at=order.ordered_at,
            started_at=None,
            ended_at=None,
            info=wire.Info(code="queued", message=message, arguments={}),
            progress=[],
        ),
    )

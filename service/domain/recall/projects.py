"""Back to what was wanted of a project, its tokens, data stores, registries and volumes, and of the yard."""

from __future__ import annotations

from service.domain import commands as cmd
from service.domain import events as ev
from service.domain.events import Event
from service.domain.recall.base import Before, Inverse


def _project_key_destroyed(event: Event, _before: Before) -> cmd.Command:
    return cmd.EraseProject(project=event.project, key_ids=event.body.key_ids)


def _quota_set(event: Event, _before: Before) -> cmd.Command:
    return cmd.SetQuota(project=event.project, cpu=event.body.cpu, gpu=event.body.gpu)


def _token_created(event: Event, _before: Before) -> cmd.Command:
    body: ev.TokenCreated = event.body
    return cmd.CreateToken(
        project=event.project,
        token_id=body.token_id,
        name=body.name,
        role=body.role,
        sha256=body.sha256,
        label_selector=body.label_selector,
    )


def _token_renewed(event: Event, _before: Before) -> cmd.Command:
    return cmd.RenewToken(project=event.project, token_id=event.body.token_id, sha256=event.body.sha256)


def _token_revoked(event: Event, _before: Before) -> cmd.Command:
    return cmd.RevokeToken(project=event.project, token_id=event.body.token_id)


def _store_set(event: Event, before: Before) -> cmd.Command:
    body: ev.DataStoreSet = event.body
    return cmd.SetDataStore(
        project=event.project,
        alias=body.alias,
        kind=body.kind,
        endpoint=body.endpoint,
        region=body.region,
        access_key=body.access_key,
        secret_key=body.secret_key,
        git=body.git,
        owner=body.owner,
        replace=before.project is not None and body.alias in before.project.data_stores,
    )


def _store_removed(event: Event, _before: Before) -> cmd.Command:
    return cmd.RemoveDataStore(project=event.project, alias=event.body.alias)


def _registry_set(event: Event, before: Before) -> cmd.Command:
    body: ev.RegistrySet = event.body
    return cmd.SetRegistry(
        project=event.project,
        registry_id=body.registry_id,
        user=body.user,
        url=body.url,
        username=body.username,
        password=body.password,
        replace=before.project is not None and body.registry_id in before.project.registries,
    )


def _registry_removed(event: Event, _before: Before) -> cmd.Command:
    return cmd.RemoveRegistry(project=event.project, registry_id=event.body.registry_id)


def _volume_created(event: Event, _before: Before) -> cmd.Command:
    body: ev.VolumeCreated = event.body
    return cmd.CreateVolume(
        project=event.project,
        volume_id=body.volume_id,
        cache=body.cache,
        source=body.source,
        git=body.git,
        url=body.url,
    )


def _volume_deleted(event: Event, _before: Before) -> cmd.Command:
    return cmd.DeleteVolume(project=event.project, volume_id=event.body.volume_id)


def _supervisor_started(event: Event, _before: Before) -> cmd.Command:
    body: ev.SupervisorStarted = event.body
    return cmd.StartSupervisor(
        engine=body.engine,
        epoch=body.epoch,
        node=body.node,
        absent_since=body.absent_since,
        cpus=body.cpus,
        memory=body.memory,
        gpus=body.gpus,
        devices=body.devices,
        gpu_trouble=body.gpu_trouble,
        patience_ms=body.patience_ms,
    )


def _admission_set(event: Event, _before: Before) -> cmd.Command:
    body: ev.AdmissionSet = event.body
    return cmd.SetAdmission(engine=body.engine, epoch=body.epoch, node=body.node, stopped=body.stopped)


INVERSES: dict[type[ev.Body], Inverse] = {
    ev.ProjectKeyDestroyed: _project_key_destroyed,
    ev.QuotaSet: _quota_set,
    ev.TokenCreated: _token_created,
    ev.TokenRenewed: _token_renewed,
    ev.TokenRevoked: _token_revoked,
    ev.DataStoreSet: _store_set,
    ev.DataStoreRemoved: _store_removed,
    ev.RegistrySet: _registry_set,
    ev.RegistryRemoved: _registry_removed,
    ev.VolumeCreated: _volume_created,
    ev.VolumeDeleted: _volume_deleted,
    ev.SupervisorStarted: _supervisor_started,
    ev.AdmissionSet: _admission_set,
}

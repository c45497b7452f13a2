"""`projects`: one row a project, with its data stores, registries and volumes."""

from __future__ import annotations

from msgspec.structs import replace

from projections.fold import Fold
from service.domain.directory import DataStore, Project, Registry, UserVolume
from service.domain.events import (
    DataStoreRemoved,
    DataStoreSet,
    Event,
    ProjectCreated,
    ProjectKeyDestroyed,
    RegistryRemoved,
    RegistrySet,
    VolumeCreated,
    VolumeDeleted,
)

_CONCERNED = (
    ProjectCreated
    | DataStoreSet
    | DataStoreRemoved
    | RegistrySet
    | RegistryRemoved
    | VolumeCreated
    | VolumeDeleted
    | ProjectKeyDestroyed
)


def key(event: Event) -> str | None:
    return event.project if isinstance(event.body, _CONCERNED) else None


def evolve(row: Project | None, event: Event) -> Project:
    match event.body:
        case ProjectCreated() as created:
            return Project(id=event.project or "", name=created.name, created_at=event.recorded_at)
        case DataStoreSet() as body if row is not None:
            known = row.data_stores.get(body.alias)
            store = DataStore(
                alias=body.alias,
                kind=body.kind,
                endpoint=body.endpoint,
                region=body.region,
                access_key=body.access_key,
                secret_key=body.secret_key,
                git=body.git,
                owner=body.owner,
                created_at=known.created_at if known else event.recorded_at,
                updated_at=event.recorded_at,
            )
            return replace(row, data_stores={**row.data_stores, body.alias: store})
        case DataStoreRemoved() as body if row is not None:
            kept = {alias: store for alias, store in row.data_stores.items() if alias != body.alias}
            return replace(row, data_stores=kept)
        case RegistrySet() as body if row is not None:
            return replace(row, registries={**row.registries, body.registry_id: _registry(row, event, body)})
        case VolumeCreated() as body if row is not None:
            return replace(row, volumes={**row.volumes, body.volume_id: _volume(event, body)})
        case VolumeDeleted() as body if row is not None:
            rest = {known: each for known, each in row.volumes.items() if known != body.volume_id}
            return replace(row, volumes=rest)
        case RegistryRemoved() as body if row is not None:
            left = {known: each for known, each in row.registries.items() if known != body.registry_id}
            return replace(row, registries=left)
        case ProjectKeyDestroyed() as body if row is not None:
            gone = (*row.destroyed_keys, *body.key_ids)
            return replace(row, destroyed_keys=gone, erased_position=event.position)
        case _:
            raise ValueError(f"event {event.position}: {event.type} of a project that does not exist")


def _registry(row: Project, event: Event, body: RegistrySet) -> Registry:
    known = row.registries.get(body.registry_id)
    return Registry(
        id=body.registry_id,
        url=body.url,
        scheme=body.scheme,
        host=body.host,
        username=body.username,
        password=body.password,
        user=body.user,
        created_at=known.created_at if known else event.recorded_at,
        updated_at=event.recorded_at,
    )


def _volume(event: Event, body: VolumeCreated) -> UserVolume:
    return UserVolume(
        id=body.volume_id,
        created_at=event.recorded_at,
        updated_at=event.recorded_at,
        cache=body.cache,
        source=body.source,
        git=body.git,
        url=body.url,
    )


FOLD = Fold("projects", Project, key, evolve, _CONCERNED)

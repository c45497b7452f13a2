"""The `jobyard job run …` that submits the same job, quoted for a POSIX shell."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from uuid import UUID

from service.domain.asked import DataStoreAsked, JobSpecAsked, PrivateSwiftAsked, SourceAsked, VolumeAsked
from service.domain.labels import OWN_PREFIX
from service.domain.volumes import mount_path
from service.domain.weburls import spoken


def command_line(asked: JobSpecAsked) -> str:
    """Of a specification that was found right."""
    words = ["jobyard", "job", "run", *_options(asked), asked.image]
    if asked.command:
        words += ["--", *asked.command]
    return shlex.join(words)


def _options(asked: JobSpecAsked) -> Iterator[str]:
    resources = asked.resources
    if resources is not None:
        if resources.gpu:
            yield from ("--gpu", str(resources.gpu))
        elif resources.cpu:
            yield from ("--cpu", str(resources.cpu))
        if resources.flavor:
            yield from ("--flavor", resources.flavor)
    for var in asked.env_vars or []:
        yield from ("--env", f"{var.name}={var.value}")
    for index, volume in enumerate(asked.volumes or []):
        yield from _volume(f"volumes[{index}]", volume)
    if asked.name:
        yield from ("--name", asked.name)
    for name, value in sorted((asked.labels or {}).items()):
        if not name.startswith(OWN_PREFIX):
            yield from ("--label", f"{name}={value}")
    if asked.timeout is not None:
        yield from ("--timeout", f"{asked.timeout}s")
    if asked.timeout_auto_restart:
        yield "--timeout-auto-restart"
    if asked.default_http_port is not None:
        yield from ("--default-http-port", str(asked.default_http_port))
    if asked.unsecure_http:
        yield "--unsecure-http"
    for key in asked.ssh_public_keys or []:
        yield from ("--ssh-public-keys", key)
    if asked.grpc_port is not None:
        yield from ("--grpc-port", str(asked.grpc_port))
    if asked.read_user:
        yield f"--read-user={asked.read_user}"  # it may begin with, or be, dashes
    if asked.shutdown is not None:
        yield from ("--shutdown", asked.shutdown)


def _volume(field: str, volume: VolumeAsked) -> Iterator[str]:
    """`container@alias/prefix:/path:rw:cache`, or a URL, `standalone` or a volume's id before the path."""
    path = mount_path(field, volume.mount_path)
    permission = "ro" if volume.permission.upper() == "R" else volume.permission.lower()
    cache = "" if volume.cache is None else (":cache" if volume.cache else ":no-cache")
    source: SourceAsked = volume.volume_source or volume
    store = _store(source.data_store, source.private_swift)
    place, archive = "standalone", ""
    if volume.user_volume_id is not None:
        place = str(UUID(volume.user_volume_id))
    elif source.public_git is not None:
        place = spoken("git", source.public_git.url)
    elif source.public_swift is not None:
        place = spoken("archive", source.public_swift.url)
    elif store is not None:
        place, archive = _place(store)
    yield from ("--volume", f"{place}:{path}:{permission}{cache}{archive}")
    target = _store(volume.target_data_store, volume.target_private_swift)
    if target is not None:
        place, archive = _place(target)
        yield from ("--push-to", f"{place}:{path}{archive}")


def _store(store: DataStoreAsked | None, swift: PrivateSwiftAsked | None) -> DataStoreAsked | None:
    """In one spelling."""
    if store is not None or swift is None:
        return store
    return DataStoreAsked(
        alias=swift.region, container=swift.container, prefix=swift.prefix, archive=swift.archive
    )


def _place(store: DataStoreAsked) -> tuple[str, str]:
    """Where it is, and the word for an archive if it is one."""
    if store.archive:
        return f"{store.container}@{store.alias}/{store.archive}", ":archive"
    prefix = (store.prefix or "").lstrip("/")
    return f"{store.container}@{store.alias}" + (f"/{prefix}" if prefix else ""), ""

"""The `jobyard job run …` that submits the same job, quoted for a POSIX shell."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from service.api.errors import Said
from service.domain.asked import DataStoreAsked, JobSpecAsked, SourceAsked, VolumeAsked
from service.domain.labels import OWN_PREFIX
from service.domain.volumes import mount_path
from service.domain.weburls import spoken
from service.errors import Invalid


def command_line(asked: JobSpecAsked) -> str:
    """Raises `Invalid` for what the command line has no word for."""
    _refuse_unspeakable(asked)
    words = ["jobyard", "job", "run", *_options(asked), asked.image]
    if asked.command:
        words += ["--", *asked.command]
    return shlex.join(words)


def _refuse_unspeakable(asked: JobSpecAsked) -> None:
    for field, value in (
        ("grpcPort", asked.grpc_port),
        ("readUser", asked.read_user),
        ("shutdown", asked.shutdown),
    ):
        if value is not None:
            said = Said("the command line has no option for it")
            raise Invalid(field, said, "submit it through the API")
    for name, value in (asked.labels or {}).items():
        if not value:
            said = Said("it has no value")
            raise Invalid(f"labels.{name}", said, "the command line takes labels with a value")


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
        yield from ("--volume", _volume(f"volumes[{index}]", volume))
    if asked.name:
        yield from ("--name", asked.name)
    for name, value in sorted((asked.labels or {}).items()):
        if not name.startswith(OWN_PREFIX):
            yield from ("--label", f"{name}={value}")
    for key in asked.ssh_public_keys or []:
        yield from ("--ssh-public-keys", key.strip())
    if asked.timeout is not None:
        yield from ("--timeout", f"{asked.timeout}s")
    if asked.timeout_auto_restart:
        yield "--timeout-auto-restart"
    if asked.default_http_port is not None:
        yield from ("--default-http-port", str(asked.default_http_port))
    if asked.unsecure_http:
        yield "--unsecure-http"


def _volume(field: str, volume: VolumeAsked) -> str:
    """`container@alias/prefix:/path:rw:cache`, or a URL or `standalone` in the place of the container."""
    if volume.user_volume_id is not None:
        said = Said("the command line has no option for it")
        raise Invalid(f"{field}.userVolumeId", said, "submit it through the API")
    if volume.target_data_store or volume.target_private_swift:
        raise Invalid(
            f"{field}.targetDataStore",
            Said("the command line has no option for it"),
            "submit it through the API",
        )
    source: SourceAsked = volume.volume_source or volume
    store = source.data_store or (
        DataStoreAsked(
            alias=source.private_swift.region,
            container=source.private_swift.container,
            prefix=source.private_swift.prefix,
            archive=source.private_swift.archive,
        )
        if source.private_swift
        else None
    )
    place = "standalone"
    if source.public_git is not None:
        place = spoken("git", source.public_git.url)
    elif source.public_swift is not None:
        place = spoken("archive", source.public_swift.url)
    elif store is not None:
        if store.archive:
            said = Said("the command line has no option for it")
            raise Invalid(f"{field}.dataStore.archive", said, "submit it through the API")
        prefix = (store.prefix or "").lstrip("/")
        place = f"{store.container}@{store.alias}" + (f"/{prefix}" if prefix else "")
    permission = "ro" if volume.permission.upper() == "R" else volume.permission.lower()
    cache = "" if volume.cache is None else (":cache" if volume.cache else ":no-cache")
    return f"{place}:{mount_path(field, volume.mount_path)}:{permission}{cache}"

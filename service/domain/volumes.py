"""Reading the volumes of a specification: sources, permissions, mount paths that do not collide."""

from __future__ import annotations

import re
from uuid import UUID

from service.domain.asked import DataStoreAsked, PrivateSwiftAsked, SourceAsked, VolumeAsked
from service.domain.gitstores import REPOSITORY, read_repository
from service.domain.spec import Permission, Place, Volume, Web
from service.domain.weburls import read_archive_url, read_git_url
from service.errors import Invalid

MAX_VOLUMES = 32
MAX_PATH_BYTES = 1024
MAX_SEGMENT_BYTES = 255

#: What a push can write, by the ends of their names.
WRITTEN_ARCHIVES = (".tar", ".tar.gz", ".tgz")

#: Parts of a container's file system that the kernel or the engine provides.
RESERVED = ("/proc", "/sys", "/dev", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
#: The engine puts files of its own here.
_FURNISHED = "/etc"

_ALIAS = re.compile(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")
_CONTAINER = re.compile(r"\A[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]\Z")
_CONTAINERS = "3 to 63 letters, digits, '-', '_' and '.', not at either end '.', '-', '_'"
_PERMISSIONS = {"R": Permission.RO, "RO": Permission.RO, "RW": Permission.RW, "RWD": Permission.RWD}

_SOURCES = (
    ("data_store", "dataStore"),
    ("private_swift", "privateSwift"),
    ("public_git", "publicGit"),
    ("public_swift", "publicSwift"),
    ("standalone", "standalone"),
)


def read_volumes(asked: list[VolumeAsked]) -> tuple[Volume, ...]:
    """Check every volume and that no two of them share a path or lie in one another."""
    if len(asked) > MAX_VOLUMES:
        raise Invalid("volumes", f"{len(asked)} volumes", f"at most {MAX_VOLUMES}")
    volumes = tuple(_volume(f"volumes[{index}]", volume) for index, volume in enumerate(asked))
    for index, volume in enumerate(volumes):
        for earlier, other in enumerate(volumes[:index]):
            _refuse_overlap(index, volume.mount_path, earlier, other.mount_path)
    return volumes


def _refuse_overlap(index: int, path: str, earlier: int, other: str) -> None:
    field = f"volumes[{index}].mountPath"
    if path == other:
        raise Invalid(field, path, f"volumes[{earlier}] is mounted there already; paths must differ")
    if path.startswith(other + "/") or other.startswith(path + "/"):
        raise Invalid(
            field, path, f"it overlaps {other} of volumes[{earlier}]; one must not lie in the other"
        )


def _volume(field: str, asked: VolumeAsked) -> Volume:
    permission = _PERMISSIONS.get(asked.permission.upper())
    if permission is None:
        raise Invalid(f"{field}.permission", asked.permission, "RO (or R), RW or RWD")
    user_volume = _user_volume(field, asked)
    source = None if user_volume else _source(field, asked)
    target = _target(field, asked)
    if target is not None and permission is Permission.RO:
        raise Invalid(f"{field}.targetDataStore", target.alias, "a volume that is RO is never pushed")
    volume = Volume(
        mount_path=mount_path(f"{field}.mountPath", asked.mount_path),
        permission=permission,
        source=source if isinstance(source, Place) else None,
        target=target,
        cache=bool(asked.cache),
        git=source.url if isinstance(source, Web) and source.kind == "git" else None,
        url=source.url if isinstance(source, Web) and source.kind == "archive" else None,
        user_volume=user_volume,
    )
    refuse_unwritable(field, volume)
    return volume


def refuse_unwritable(field: str, volume: Volume) -> None:
    """An archive that is pushed must have a name that says which kind we shall write."""
    place = volume.push_to
    if place is None or not place.archive or place.archive.endswith(WRITTEN_ARCHIVES):
        return
    where = "targetDataStore" if volume.target else "dataStore"
    allowed = f"an archive that is pushed ends in {', '.join(WRITTEN_ARCHIVES)}; of others, read with RO"
    raise Invalid(f"{field}.{where}.archive", place.archive, allowed)


def mount_path(field: str, path: str) -> str:
    """An absolute path in its plain form, without a trailing slash."""
    if not path.startswith("/"):
        raise Invalid(field, path, "an absolute path, such as /workspace/data")
    plain = path.rstrip("/")
    segments = plain.split("/")[1:]
    if not plain:
        raise Invalid(field, path, "a path below /, such as /workspace/data")
    if any(segment in ("", ".", "..") for segment in segments):
        raise Invalid(field, path, "a path without empty, '.' or '..' parts")
    if len(path.encode()) > MAX_PATH_BYTES or any(ord(char) < 32 or char in ",:" for char in path):
        raise Invalid(field, path, f"at most {MAX_PATH_BYTES} bytes, without ',', ':' and control characters")
    if any(plain == part or plain.startswith(f"{part}/") for part in RESERVED):
        raise Invalid(field, path, f"not in {', '.join(RESERVED)}")
    if plain == _FURNISHED:
        raise Invalid(
            field, path, f"a path below it, such as {_FURNISHED}/app: the engine has its files in it"
        )
    return plain


def _user_volume(field: str, asked: VolumeAsked) -> str | None:
    """The id of the project's volume that stands for a source."""
    if asked.user_volume_id is None:
        return None
    if _named(asked) or asked.volume_source is not None:
        said = "name a volume of the project or a source, not both"
        raise Invalid(f"{field}.userVolumeId", asked.user_volume_id, said)
    try:
        return str(UUID(asked.user_volume_id))
    except ValueError:
        said = "the id of a volume of the project, a UUID"
        raise Invalid(f"{field}.userVolumeId", asked.user_volume_id, said) from None


def read_user_volume(asked: SourceAsked, cache: bool | None) -> tuple[Place | Web | None, bool]:
    """The source of a volume that a project is to have, and whether it is cached. Raises `Invalid`.

    Cached are all but git repositories and standalone volumes, unless it is said otherwise.
    """
    source = _one_source("", asked)
    cachable = source is not None and not (isinstance(source, Web) and source.kind == "git")
    if cache and not cachable:
        raise Invalid("cache", cache, "a git repository and a standalone volume have no cache")
    return source, cachable if cache is None else cache


def _source(field: str, asked: VolumeAsked) -> Place | Web | None:
    base: SourceAsked = asked
    if asked.volume_source is not None:
        if _named(asked):
            raise Invalid(f"{field}.volumeSource", _named(asked), "name the source once, in it or beside it")
        base, field = asked.volume_source, f"{field}.volumeSource"
    return _one_source(field, base)


def _one_source(field: str, base: SourceAsked) -> Place | Web | None:
    named = _named(base)
    if len(named) != 1:
        kinds = ", ".join(wire for _, wire in _SOURCES)
        given = named if named or field else None  # a volume that is there, and has none of them
        raise Invalid(field or "dataStore", given, f"a volume has exactly one source, one of {kinds}")
    field = f"{field}." if field else ""
    if base.data_store is not None:
        return _place(f"{field}dataStore", base.data_store)
    if base.private_swift is not None:
        return _swift_place(f"{field}privateSwift", base.private_swift)
    if base.public_git is not None:
        read_git_url(f"{field}publicGit.url", base.public_git.url)
        return Web("git", base.public_git.url)
    if base.public_swift is not None:
        read_archive_url(f"{field}publicSwift.url", base.public_swift.url)
        return Web("archive", base.public_swift.url)
    return None


def _named(source: SourceAsked) -> list[str]:
    return [wire for name, wire in _SOURCES if getattr(source, name) is not None]


def _target(field: str, asked: VolumeAsked) -> Place | None:
    if asked.target_data_store is not None and asked.target_private_swift is not None:
        raise Invalid(f"{field}.targetDataStore", "two targets", "name one target")
    if asked.target_data_store is not None:
        return _place(f"{field}.targetDataStore", asked.target_data_store)
    if asked.target_private_swift is not None:
        return _swift_place(f"{field}.targetPrivateSwift", asked.target_private_swift)
    return None


def _swift_place(field: str, asked: PrivateSwiftAsked) -> Place:
    return _place(
        field,
        DataStoreAsked(
            alias=asked.region, container=asked.container, prefix=asked.prefix, archive=asked.archive
        ),
        alias_field="region",
    )


def _place(field: str, asked: DataStoreAsked, alias_field: str = "alias") -> Place:
    check_alias(f"{field}.{alias_field}", asked.alias)
    _check_any_container(f"{field}.container", asked.container)
    prefix = (asked.prefix or "").lstrip("/")
    if len(prefix.encode()) > MAX_PATH_BYTES or any(ord(char) < 32 for char in prefix):
        raise Invalid(f"{field}.prefix", prefix, f"at most {MAX_PATH_BYTES} bytes, no control characters")
    if any(segment in (".", "..") for segment in prefix.split("/")) or "//" in prefix:
        raise Invalid(f"{field}.prefix", prefix, "a prefix without empty, '.' or '..' parts")
    if not asked.archive:
        return Place(asked.alias, asked.container, prefix)
    if prefix:
        raise Invalid(f"{field}.prefix", prefix, "an archive is one object; write its whole key in archive")
    _check_archive(f"{field}.archive", asked.archive)
    return Place(asked.alias, asked.container, "", asked.archive)


def _check_archive(field: str, key: str) -> None:
    """The key of one object, which must be one that a pull could make a file of."""
    if len(key.encode()) > MAX_PATH_BYTES or any(ord(char) < 32 or ord(char) == 127 for char in key):
        raise Invalid(field, key, f"at most {MAX_PATH_BYTES} bytes, no control characters")
    segments = key.split("/")
    if any(part in ("", ".", "..") or len(part.encode()) > MAX_SEGMENT_BYTES for part in segments):
        raise Invalid(
            field, key, f"a key without empty, '.' and '..' parts, at most {MAX_SEGMENT_BYTES} bytes each"
        )


def check_alias(field: str, alias: str) -> None:
    if not _ALIAS.match(alias):
        raise Invalid(field, alias, "letters, digits, '-', '_' and '.', at most 63")


def check_container(field: str, container: str) -> None:
    """A container of a data store of type s3."""
    if not _CONTAINER.match(container):
        raise Invalid(field, container, _CONTAINERS)


def _check_any_container(field: str, container: str) -> None:
    """A container of any data store: which it is, is known when the project is (`decide_volume`)."""
    if _CONTAINER.match(container):
        return
    try:
        read_repository(field, container)
    except Invalid:
        raise Invalid(field, container, f"{_CONTAINERS}; of a git store: {REPOSITORY}") from None

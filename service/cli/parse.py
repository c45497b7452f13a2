"""What people write in options, read into what the API takes. Pure; errors name the option.

Source of the volume forms: OVHcloud's guides for `ovhai job run --volume`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from service.domain.weburls import looks_like_archive
from service.errors import Invalid

T = TypeVar("T")

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"(?:\d+[smhdw])+\Z")
_PART = re.compile(r"(\d+)([smhdw])")
_SIZE = re.compile(r"([0-9]{1,18})(?:([KMGTkmgt])(?:i?[Bb])?)?")
_PERMISSIONS = {"r": "RO", "ro": "RO", "rw": "RW", "rwd": "RWD"}
_KINDS = {"git": "publicGit", "archive": "publicSwift"}
_CACHES = {"cache": True, "no-cache": False}
_ARCHIVES = {"archive": True}
_ID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")
_VOLUME_FORMS = (
    "write CONTAINER@ALIAS[/PREFIX]:/PATH[:ro|rw|rwd][:cache|no-cache], "
    "CONTAINER@ALIAS/KEY:/PATH[:…]:archive, https://HOST/REPOSITORY[#REF]:/PATH[:…], "
    "https://HOST/FILE.tar.gz:/PATH[:…] (git+https:// and archive+https:// tell them apart), "
    "VOLUME-ID:/PATH[:…] or standalone:/PATH[:rw]"
)
_SOURCE_FORMS = (
    "write CONTAINER@ALIAS[/PREFIX], CONTAINER@ALIAS/KEY:archive, https://HOST/REPOSITORY[#REF], "
    "https://HOST/FILE.tar.gz or standalone"
)
_PUSH_FORMS = "write CONTAINER@ALIAS[/PREFIX]:/PATH, or CONTAINER@ALIAS/KEY:/PATH:archive"


class Bucket(NamedTuple):
    """A container, and the data store it is in; None: the project's only one."""

    container: str
    alias: str | None


def duration_s(option: str, text: str) -> int:
    """Seconds of `3600`, `90m`, `1h`, `7d` or `1h30m`."""
    plain = text.strip().lower()
    if plain.isascii() and plain.isdigit():
        seconds = int(plain)
    elif plain.isascii() and _DURATION.match(plain):
        seconds = sum(int(count) * _UNITS_S[unit] for count, unit in _PART.findall(plain))
    else:
        raise Invalid(option, text, "write seconds, or a number with s, m, h, d or w, such as 90m or 1h30m")
    if seconds == 0:
        raise Invalid(option, text, "it must be longer than nothing")
    return seconds


def size_bytes(option: str, text: str) -> int:
    """Bytes of `1024`, `64M`, `128G` or `128GiB`: each unit is 1024 of the one before."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise Invalid(option, text, "write bytes, or a number with K, M, G or T, such as 128G")
    power: int = " KMGT".index((found[2] or " ").upper())
    return int(int(found[1]) * 1024**power)


def amounts(
    option: str, given: Sequence[str], known: Sequence[str], sizes: Sequence[str] = ()
) -> dict[str, int]:
    """`NAME=NUMBER` each, several with commas; those of `sizes` may have a unit."""
    found: dict[str, int] = {}
    for text in (part for each in given for part in each.split(",")):
        name, _, amount = text.strip().partition("=")
        if name not in known:
            raise Invalid(option, text, f"write NAME=NUMBER; the names are {', '.join(known)}")
        if name in found:
            raise Invalid(option, text, f"{name} stands twice")
        if name in sizes:
            found[name] = size_bytes(option, amount)
        elif amount.isascii() and amount.isdigit():
            found[name] = int(amount)
        else:
            raise Invalid(option, text, f"write {name}=NUMBER, with a whole number")
    return found


def env_vars(given: Sequence[str], environ: Mapping[str, str]) -> list[dict[str, str]]:
    """`K=V`, or `K` alone to take the value from `environ`. The last one of a name counts."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name:
            # What stands behind it may be a secret: it is not repeated.
            allowed = "its name is empty; write NAME=VALUE, or NAME to take the value from your environment"
            raise Invalid("--env", "=…" if equals else "", allowed)
        if not equals:
            if name not in environ:
                raise Invalid("--env", name, "it is not set in your environment; write NAME=VALUE")
            value = environ[name]
        found[name] = value
    return [{"name": name, "value": value} for name, value in found.items()]


def labels(given: Sequence[str]) -> dict[str, str]:
    """`K=V` each; `K=` is a label without a value."""
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise Invalid("--label", text, "write NAME=VALUE")
        found[name] = value
    return found


def volume(text: str) -> dict[str, Any]:
    """One `--volume`, as the API takes it."""
    rest, archive = _ending(text, _ARCHIVES)
    rest, cache = _ending(rest, _CACHES)
    rest, permission = _ending(rest, _PERMISSIONS)
    source, path = _mounted("--volume", text, rest, _VOLUME_FORMS)
    made: dict[str, Any] = {**_source(text, source, archive is not None), "mountPath": path}
    standing = "RW" if source == "standalone" else "RO"
    made["permission"] = permission or standing
    if cache is not None:
        made["cache"] = cache
    return made


def push_to(text: str) -> tuple[str, dict[str, Any]]:
    """One `--push-to`: the mount path of a volume, and the place that it is pushed to, not its source."""
    rest, archive = _ending(text, _ARCHIVES)
    place, path = _mounted("--push-to", text, rest, _PUSH_FORMS)
    return path, _place("--push-to", text, place, archive is not None, _PUSH_FORMS)


def volumes(given: Sequence[str], pushed: Sequence[str]) -> list[dict[str, Any]]:
    """All of `--volume` and `--push-to`."""
    made = [volume(text) for text in given]
    for text in pushed:
        path, place = push_to(text)
        found = [each for each in made if each["mountPath"].rstrip("/") == path.rstrip("/")]
        if not found:
            known = ", ".join(each["mountPath"] for each in made) or "none"
            raise Invalid("--push-to", text, f"no --volume is mounted there; there are: {known}")
        found[0]["targetDataStore"] = place
    return made


def source(option: str, text: str) -> dict[str, Any]:
    """What a volume of the project holds: as `--volume`, without a path."""
    rest, archive = _ending(text, _ARCHIVES)
    if _ID.match(rest):
        raise Invalid(option, text, "name where its data is, as `job run --volume` does before the path")
    return _source(text, rest, archive is not None, option, _SOURCE_FORMS)


def bucket(text: str) -> Bucket:
    """`CONTAINER` or `CONTAINER@ALIAS`."""
    container, at, alias = text.partition("@")
    if not container or (at and not alias) or "/" in text:
        raise Invalid("CONTAINER", text, "write CONTAINER or CONTAINER@ALIAS; folders go into --prefix")
    return Bucket(container, alias or None)


def _ending(text: str, known: Mapping[str, T]) -> tuple[str, T | None]:
    """`text` without its last `:word` if that is one of `known`, and what the word means."""
    rest, _, word = text.rpartition(":")
    return (rest, known[word.lower()]) if word.lower() in known else (text, None)


def _mounted(option: str, text: str, rest: str, forms: str) -> tuple[str, str]:
    """What stands before the mount path, and the path. The first may hold `:` (a URL, a prefix)."""
    before, found, path = rest.rpartition(":/")
    if not found or not before or ":" in path:
        raise Invalid(option, text, forms)
    return before, f"/{path}"


def _source(
    text: str, source: str, archive: bool, option: str = "--volume", forms: str = _VOLUME_FORMS
) -> dict[str, Any]:
    kind, plus, url = source.partition("+")
    if plus and kind in _KINDS and url.startswith("https://"):
        made: dict[str, Any] = {_KINDS[kind]: {"url": url}}
    elif _is_url(source):
        made = {_KINDS["archive" if looks_like_archive(source) else "git"]: {"url": source}}
    elif source == "standalone":
        made = {"standalone": {}}
    elif _ID.match(source):
        made = {"userVolumeId": source.lower()}
    else:
        return {"dataStore": _place(option, text, source, archive, forms)}
    if archive:
        raise Invalid(option, text, "only an object of a data store is called :archive")
    return made


def _is_url(source: str) -> bool:
    """`git@` alone is a repository `git` of some data store."""
    return source.startswith(("https://", "http://", "ssh://")) or (
        source.startswith("git@") and ":" in source
    )


def _place(option: str, text: str, place: str, archive: bool, forms: str) -> dict[str, str]:
    """A place in a data store; with `archive`, the one object of that key."""
    container, _, rest = place.partition("@")
    alias, _, prefix = rest.partition("/")
    if not container or not alias or (archive and not prefix):
        raise Invalid(option, text, forms)
    found = {"alias": alias, "container": container}
    return found | ({"archive" if archive else "prefix": prefix} if prefix else {})

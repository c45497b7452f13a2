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
_PERMISSIONS = {"r": "RO", "ro": "RO", "rw": "RW", "rwd": "RWD"}
_KINDS = {"git": "publicGit", "archive": "publicSwift"}
_CACHES = {"cache": True, "no-cache": False}
_VOLUME_FORMS = (
    "write CONTAINER@ALIAS[/PREFIX]:/PATH[:ro|rw|rwd][:cache|no-cache], "
    "https://HOST/REPOSITORY[#REF]:/PATH[:…], https://HOST/FILE.tar.gz:/PATH[:…] (git+https:// and "
    "archive+https:// tell them apart) or standalone:/PATH[:rw]"
)


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


def env_vars(given: Sequence[str], environ: Mapping[str, str]) -> list[dict[str, str]]:
    """`K=V`, or `K` alone to take the value from `environ`. The last one of a name counts."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name:
            # The text may hold a secret: it is not repeated.
            raise Invalid("--env", None, "write NAME=VALUE, or NAME to take the value from your environment")
        if not equals:
            if name not in environ:
                raise Invalid("--env", name, "it is not set in your environment; write NAME=VALUE")
            value = environ[name]
        found[name] = value
    return [{"name": name, "value": value} for name, value in found.items()]


def labels(given: Sequence[str]) -> dict[str, str]:
    """`K=V` each."""
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise Invalid("--label", text, "write NAME=VALUE")
        found[name] = value
    return found


def volume(text: str) -> dict[str, Any]:
    """One `--volume`, as the API takes it."""
    rest, cache = _ending(text, _CACHES)
    rest, permission = _ending(rest, _PERMISSIONS)
    # A source may hold `:` (a URL, a prefix), a mount path may not.
    source, found, path = rest.rpartition(":/")
    if not found or not source or ":" in path:
        raise Invalid("--volume", text, _VOLUME_FORMS)
    made: dict[str, Any] = {**_source(text, source), "mountPath": f"/{path}"}
    standing = "RW" if source == "standalone" else "RO"
    made["permission"] = permission or standing
    if cache is not None:
        made["cache"] = cache
    return made


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


def _source(text: str, source: str) -> dict[str, Any]:
    if source == "standalone":
        return {"standalone": {}}
    kind, plus, url = source.partition("+")
    if plus and kind in _KINDS and url.startswith("https://"):
        return {_KINDS[kind]: {"url": url}}
    # `git@` alone is a repository `git` of some data store.
    if source.startswith(("https://", "http://", "ssh://")) or (source.startswith("git@") and ":" in source):
        return {_KINDS["archive" if looks_like_archive(source) else "git"]: {"url": source}}
    container, _, place = source.partition("@")
    alias, _, prefix = place.partition("/")
    if not container or not alias:
        raise Invalid("--volume", text, _VOLUME_FORMS)
    store = {"alias": alias, "container": container}
    return {"dataStore": store | ({"prefix": prefix} if prefix else {})}

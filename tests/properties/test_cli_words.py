"""Whatever the API writes as a command line, `jobyard job run` reads back as the same job."""

from __future__ import annotations

import shlex
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from service.api.command_line import command_line
from service.cli import parse
from service.domain.asked import DataStoreAsked, JobSpecAsked, StandaloneAsked, UrlAsked, VolumeAsked

_NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}[A-Za-z0-9]", fullmatch=True)
_PARTS = st.text(
    st.characters(min_codepoint=32, exclude_characters="/", exclude_categories=["Cs"]), min_size=1
)
_PREFIXES = st.lists(_PARTS.filter(lambda part: part not in (".", "..")), max_size=3).map("/".join)
_PATHS = st.lists(
    st.text(st.characters(min_codepoint=33, exclude_characters="/,:", exclude_categories=["Cs"]), min_size=1),
    min_size=1,
    max_size=3,
).map(lambda parts: "/" + "/".join(parts))
_PATHS = _PATHS.filter(lambda path: not {".", ".."} & set(path.split("/")))
_PERMISSIONS = st.sampled_from(["RO", "RW", "RWD"])
_CACHES = st.sampled_from([None, True, False])


@given(_NAMES, _NAMES, _PREFIXES, _PATHS, _PERMISSIONS, _CACHES)
def test_a_volume_of_a_data_store(
    container: str, alias: str, prefix: str, path: str, permission: str, cache: bool | None
) -> None:
    asked = VolumeAsked(
        mount_path=path,
        permission=permission,
        cache=cache,
        data_store=DataStoreAsked(alias=alias, container=container, prefix=prefix or None),
    )
    place = {"alias": alias, "container": container} | ({"prefix": prefix} if prefix else {})
    expected: dict[str, Any] = {"dataStore": place, "mountPath": path, "permission": permission}
    assert parse.volume(_written(asked)) == expected | ({} if cache is None else {"cache": cache})


@given(_PATHS, st.sampled_from(["RW", "RWD"]))
def test_a_standalone_volume(path: str, permission: str) -> None:
    written = _written(VolumeAsked(mount_path=path, permission=permission, standalone=StandaloneAsked()))
    assert parse.volume(written) == {"standalone": {}, "mountPath": path, "permission": permission}


_URLS = st.from_regex(
    r"https://h\.example(:[1-9][0-9]{0,3})?/[a-z+:]{1,8}(\.git|\.zip|\.tar\.gz)?", fullmatch=True
)


@given(
    _URLS, st.sampled_from(["publicGit", "publicSwift"]), st.sampled_from(["", "#v1.zip", "?a=b:c"]), _PATHS
)
def test_a_public_source(url: str, kind: str, more: str, path: str) -> None:
    source = UrlAsked(url=url + more)
    asked = VolumeAsked(
        mount_path=path,
        public_git=source if kind == "publicGit" else None,
        public_swift=source if kind == "publicSwift" else None,
    )
    expected = {kind: {"url": source.url}, "mountPath": path, "permission": "RO"}
    assert parse.volume(_written(asked)) == expected


@given(st.lists(st.tuples(st.integers(0, 10_000), st.sampled_from("smhdw")), min_size=1, max_size=5))
def test_a_duration_is_the_sum_of_its_parts(parts: list[tuple[int, str]]) -> None:
    lengths = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
    expected = sum(count * lengths[unit] for count, unit in parts)
    text = "".join(f"{count}{unit}" for count, unit in parts)
    if expected:
        assert parse.duration_s("--timeout", text) == expected


@given(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]*", fullmatch=True), st.text())
def test_a_variable_keeps_its_value_whatever_it_holds(name: str, value: str) -> None:
    assert parse.env_vars([f"{name}={value}"], {name: "not this"}) == [{"name": name, "value": value}]


def _written(volume: VolumeAsked) -> str:
    words = shlex.split(command_line(JobSpecAsked(image="busybox:1", volumes=[volume])))
    return words[words.index("--volume") + 1]

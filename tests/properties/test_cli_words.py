"""Whatever the API writes as a command line, `jobyard job run` reads back as the same job."""

from __future__ import annotations

import shlex
from base64 import b64encode
from typing import Any

import msgspec
import typer
from hypothesis import given
from hypothesis import strategies as st

from service.api.command_line import command_line
from service.cli import parse
from service.cli.job_run import register, spec_of
from service.domain.asked import (
    DataStoreAsked,
    EnvVarAsked,
    JobSpecAsked,
    ResourcesAsked,
    StandaloneAsked,
    UrlAsked,
    VolumeAsked,
)

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

register(_APP := typer.Typer())
_RUN: Any = typer.main.get_command(_APP)


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


_KEYS = st.sampled_from(["ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256"]).flatmap(
    lambda kind: st.tuples(
        st.just(kind),
        st.binary(max_size=40).map(
            lambda rest: b64encode(len(kind).to_bytes(4, "big") + kind.encode() + rest).decode()
        ),
    ).map(" ".join)
)
_PLACES = st.builds(
    DataStoreAsked, alias=_NAMES, container=_NAMES, prefix=_PREFIXES.filter(bool)
) | st.builds(DataStoreAsked, alias=_NAMES, container=_NAMES, archive=_PREFIXES.filter(bool))
_VOLUMES = st.builds(
    VolumeAsked,
    mount_path=_PATHS,
    permission=_PERMISSIONS,
    cache=_CACHES,
    data_store=_PLACES,
    target_data_store=st.none() | _PLACES,
) | st.builds(VolumeAsked, mount_path=_PATHS, permission=_PERMISSIONS, user_volume_id=st.uuids().map(str))
_TEXTS = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), min_size=1, max_size=12)
_WORDS = _TEXTS | st.sampled_from(["--", "-c", "--gpu", "-o"])
_VARIABLES = st.builds(EnvVarAsked, name=st.from_regex(r"[A-Z_]+", fullmatch=True), value=st.text())
_SPECS = st.builds(
    JobSpecAsked,
    image=st.just("busybox:1"),
    command=st.none() | st.lists(_WORDS, min_size=1, max_size=4),
    env_vars=st.none()
    | st.lists(_VARIABLES, min_size=1, unique_by=lambda variable: variable.name, max_size=3),
    volumes=st.none() | st.lists(_VOLUMES, min_size=1, max_size=3, unique_by=lambda each: each.mount_path),
    labels=st.none() | st.dictionaries(_NAMES, _NAMES | st.just(""), min_size=1, max_size=3),
    resources=st.none() | st.builds(ResourcesAsked, gpu=st.integers(1, 4), flavor=st.none() | _NAMES),
    name=st.none() | _NAMES,
    timeout=st.none() | st.integers(1, 10**7),
    timeout_auto_restart=st.none() | st.just(True),
    default_http_port=st.none() | st.integers(1, 65535),
    unsecure_http=st.none() | st.just(True),
    grpc_port=st.none() | st.integers(1, 65535),
    ssh_public_keys=st.none() | st.lists(_KEYS, min_size=1, max_size=2, unique=True),
    read_user=st.none() | _TEXTS | st.just("--"),
    shutdown=st.sampled_from([None, "Normal", "Fast"]),
)


@given(_SPECS)
def test_a_whole_specification(asked: JobSpecAsked) -> None:
    """Through the very parser of the command: every field has a word, and every word its field."""
    words = shlex.split(command_line(asked))
    assert words[:3] == ["jobyard", "job", "run"]
    context = _RUN.make_context("run", words[3:])
    read = {name: value for name, value in spec_of(context).items() if value is not None}
    assert _bare(read) == _bare(msgspec.to_builtins(asked))


def test_every_field_of_a_specification_has_a_word() -> None:
    known = {field.encode_name for field in msgspec.structs.fields(JobSpecAsked)}
    assert set(spec_of(_RUN.make_context("run", ["busybox:1"]))) == known - {"deletionRequested"}


def _bare(value: Any) -> Any:
    """Without what is not given."""
    if isinstance(value, dict):
        return {name: _bare(each) for name, each in value.items() if each is not None}
    return [_bare(each) for each in value] if isinstance(value, list) else value


def _written(volume: VolumeAsked) -> str:
    words = shlex.split(command_line(JobSpecAsked(image="busybox:1", volumes=[volume])))
    return words[words.index("--volume") + 1]

"""Keys to paths and back, without a store."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.shown import shown
from service.errors import DataError, UnsafeKey
from service.supervisor.data import Limits, ObjectInfo
from service.supervisor.data.keys import Mapping, plan, unsafe

ROOMY = Limits(max_objects=1000, max_bytes=10**9, max_depth=64)
SEGMENTS = st.one_of(
    st.text(max_size=8), st.sampled_from(["", ".", "..", "...", "a", "a\x00", "a" * 256, "é" * 128])
)
KEYS = st.lists(SEGMENTS, max_size=6).map("/".join)


def info(key: str, size: int = 1) -> ObjectInfo:
    return ObjectInfo(key, size, "", datetime(2026, 1, 1, tzinfo=UTC))


@given(KEYS)
def test_a_safe_path_never_escapes(key: str) -> None:
    if unsafe(key) is None:
        parts = PurePosixPath(key).parts
        assert "/".join(parts) == key
        assert ".." not in parts
        assert os.path.normpath(f"/volume/{key}") == f"/volume/{key}"
        assert "\x00" not in key
        assert all(len(part.encode()) <= 255 for part in parts)


@given(KEYS, st.sampled_from(["", "data/", "data/tr", "a", "a/b/"]))
def test_path_to_key_and_back(path: str, prefix: str) -> None:
    mapping = Mapping(prefix)
    assert mapping.path(mapping.key(path)) == path
    if mapping.unsafe(path) is None:
        assert mapping.key(path).startswith(prefix)
        assert list(plan([info(mapping.key(path))], mapping, ROOMY).files) == [path]


@given(st.text())
def test_what_is_shown_is_one_printable_line(name: str) -> None:
    assert shown(name).isprintable()
    assert len(shown(name)) <= 160


@pytest.mark.parametrize(
    "key",
    [
        "../x", "a/../x", "..", "a/..", ".", "a/./b", "/etc/passwd", "//x", "a//b", "a\x00b", "a\nb", "a\x7f",
        "a" * 256, "é" * 128, "/".join(["a" * 200] * 6), "a/../", "//", "/",
    ],
)  # fmt: skip
def test_unsafe_keys_are_refused_by_name(key: str) -> None:
    with pytest.raises(UnsafeKey) as refused:
        plan([info("fine"), info(key)], Mapping(""), ROOMY)
    assert shown(key) in refused.value.message


@pytest.mark.parametrize("keys", [["a", "a/b"], ["a/b", "a"], ["a/b/c", "a"], ["a", "a/"], ["a/b/", "a"]])
def test_a_name_that_is_file_and_folder_is_refused(keys: list[str]) -> None:
    with pytest.raises(UnsafeKey, match="a file and a folder"):
        plan([info(key) for key in keys], Mapping(""), ROOMY)


def test_markers_are_folders_and_the_prefix_itself_is_nothing() -> None:
    made = plan([info("data/"), info("data/sub/"), info("data/sub/x")], Mapping("data/"), ROOMY)
    assert set(made.folders) == {"sub"}
    assert list(made.files) == ["sub/x"]


@pytest.mark.parametrize(
    ("keys", "limits"),
    [
        (["a", "b", "c"], Limits(2, 100, 9)),
        (["a", "b"], Limits(9, 1, 9)),
        (["a/b/c"], Limits(9, 9, 2)),
    ],
)
def test_listings_beyond_the_limits_are_refused(keys: list[str], limits: Limits) -> None:
    with pytest.raises(DataError, match="more than"):
        plan([info(key) for key in keys], Mapping(""), limits)


def test_listings_at_the_limits_pass() -> None:
    made = plan([info("a"), info("b/c")], Mapping(""), Limits(2, 2, 2))
    assert set(made.files) == {"a", "b/c"}


def test_files_outside_a_prefix_that_ends_in_a_name_are_not_pushed() -> None:
    mapping = Mapping("data/tr")
    assert mapping.unsafe("train/x") is None
    assert mapping.unsafe("other") == "outside the prefix data/tr"

"""What changed between two values of JSON, by dotted path."""

from __future__ import annotations

from typing import Any

import pytest

from service.api.diff import changes

CASES: list[tuple[Any, Any, list[tuple[str, Any, Any]]]] = [
    ({}, {}, []),
    ({"a": 1, "b": [1, {"c": None}]}, {"a": 1, "b": [1, {"c": None}]}, []),
    ({"a": 1}, {"a": 2}, [("a", 1, 2)]),
    ({"a": {"b": {"c": "x"}}}, {"a": {"b": {"c": "y"}}}, [("a.b.c", "x", "y")]),
    ({"a": {"b": 1}}, {"a": {"b": 1, "c": False}}, [("a.c", None, False)]),
    ({"a": {"b": 1}}, {"a": None}, [("a.b", 1, None)]),
    ({"a": [1, 2]}, {"a": [1, 3, 4]}, [("a[1]", 2, 3), ("a[2]", None, 4)]),
    ({"a": [{"b": 1}]}, {"a": []}, [("a[0].b", 1, None)]),
    ({"a": []}, {"a": [[], ["x"]]}, [("a[1][0]", None, "x")]),
    ({"a": "x"}, {"a": ["x"]}, [("a", "x", ["x"])]),
    ({"a": {"b": 1}}, {"a": "b"}, [("a", {"b": 1}, "b")]),
    ({}, {"z": 0, "a": ""}, [("z", None, 0), ("a", None, "")]),
]


@pytest.mark.parametrize(("before", "after", "expected"), CASES)
def test_what_changed(before: Any, after: Any, expected: list[tuple[str, Any, Any]]) -> None:
    assert [(each.field, each.before, each.after) for each in changes(before, after)] == expected


@pytest.mark.parametrize(("before", "after", "expected"), CASES)
def test_the_other_way_round_is_the_same(before: Any, after: Any, expected: list[Any]) -> None:
    found = {(each.field, _text(each.after), _text(each.before)) for each in changes(after, before)}
    assert found == {(field, _text(was), _text(became)) for field, was, became in expected}


def _text(value: Any) -> str:
    return repr(value)

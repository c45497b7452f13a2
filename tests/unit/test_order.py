"""The order in which files of tests are run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.support import order

ROOT = Path(__file__).parents[1]


def test_the_longest_files_are_there() -> None:
    assert [name for name in order.LONGEST if not (ROOT / name).is_file()] == []


def test_the_longest_come_first_and_then_those_of_most_tests() -> None:
    few, many, long, longest = "unit/a.py", "unit/b.py", order.LONGEST[1], order.LONGEST[0]
    named = [(few, 1), (many, 1), (many, 2), (long, 1), (longest, 2), (longest, 1)]
    items: list[Any] = [SimpleNamespace(path=ROOT / name, number=number) for name, number in named]
    order.arrange(items)
    assert [(item.path.relative_to(ROOT).as_posix(), item.number) for item in items] == [
        *((longest, 2), (longest, 1), (long, 1), (many, 1), (many, 2), (few, 1))
    ]

"""Debian 12 has Python 3.11.2, where what is raised in `except*` comes out wrapped in one more group."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_nothing_is_raised_where_a_group_is_caught_in_parts() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{raised.lineno}"
        for room in ("service", "projections")
        for path in (ROOT / room).rglob("*.py")
        if "except*" in (text := path.read_text())
        for caught in ast.walk(ast.parse(text))
        if isinstance(caught, ast.TryStar)
        for handler in caught.handlers
        for raised in ast.walk(handler)
        if isinstance(raised, ast.Raise)
    ]
    assert found == []

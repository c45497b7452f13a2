"""What the service's own words tell people to run is there to be run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from service.cli.main import app_for
from service.local.commands import register

ROOT = Path(__file__).parents[2]
_NAMED = re.compile(r"`(?:jobyard|python3 -m service) ([^`]+)`")
#: What stands in a text where something is filled in.
_FILLED = "{}"


def texts(module: ast.Module) -> Iterator[str]:
    """Each text of a module as it is read: its pieces in one, docstrings too."""
    for node in ast.walk(module):
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else _FILLED for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def named() -> list[tuple[str, str]]:
    """Each file of the service, with a line that it names."""
    found: dict[tuple[str, str], None] = {}
    for path in sorted((ROOT / "service").rglob("*.py")):
        for text in texts(ast.parse(path.read_text())):
            found |= dict.fromkeys((str(path.relative_to(ROOT)), line) for line in _NAMED.findall(text))
    return list(found)


@pytest.fixture(scope="module")
def everything() -> Any:
    app = app_for()
    register(app)
    return get_command(app)


def unknown(command: Any, line: str) -> str | None:
    """The first word of a line that no command goes by."""
    for word in line.split():
        if not hasattr(command, "commands") or word.startswith(("-", _FILLED, "…")):
            return None
        if word not in command.commands:
            return word
        command = command.commands[word]
    return None


def test_what_is_named_is_a_command(everything: Any) -> None:
    found = named()  # not when tests are collected: each of their processes would read all of the service
    assert len(found) > 20
    assert not [f"{file} names `{line}`" for file, line in found if unknown(everything, line)]


def test_what_is_no_command_is_told(everything: Any) -> None:
    assert unknown(everything, "migrate") == "migrate" and unknown(everything, "job migrate") == "migrate"
    text = next(texts(ast.parse("f'run `jobyard ' f'{x} y`'")))
    assert _NAMED.findall(text) == ["{} y"]

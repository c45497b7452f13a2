"""The command starts without what only few words need: people wait for it at each prompt."""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer
from typer.core import TyperCommand, TyperGroup

from service import __main__ as way_in
from service.cli.main import COMMANDS, NOUNS, app_for, bare
from service.local import commands as machine

_SHOW = "import sys; from service.cli.main import app_for; app_for({first!r}); print(*sorted(sys.modules))"


def imported(first: str) -> set[str]:
    """All that a line which begins so imports."""
    script = _SHOW.format(first=first)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_no_client_of_a_store_an_engine_or_a_file_format_is_imported_to_start() -> None:
    assert not imported("") & {"aioboto3", "botocore", "aiodocker", "asyncssh", "pyarrow"}


def test_what_asks_the_api_alone_imports_no_driver_of_postgres() -> None:
    assert "asyncpg" not in imported("job")


_GARBAGE = """
import gc, sys
from service import __main__ as way_in
from service.cli import main
def app_for(first):
    looked = sum(each["collections"] for each in gc.get_stats())
    app = whole(first)
    print(sum(each["collections"] for each in gc.get_stats()) - looked)
    return lambda **_: print(gc.isenabled(), gc.get_freeze_count() > 10_000)
whole, main.app_for = main.app_for, app_for
sys.argv[1:] = ["job"]
way_in._run_app()
"""


def test_what_is_imported_is_not_looked_through_for_garbage() -> None:
    done = subprocess.run([sys.executable, "-c", _GARBAGE], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "True", "True"]


def test_a_line_imports_its_own_noun_and_no_other() -> None:
    nouns = {f"service.cli.{noun}" for noun in NOUNS}
    assert imported("token") & nouns == {"service.cli.token"}
    assert imported("me") & nouns == {"service.cli.job"}  # whose filters the events have


def names(app: typer.Typer) -> set[str]:
    """The first words that it knows."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    return set(group.commands)


def test_for_any_other_word_there_are_all() -> None:
    assert names(app_for("jbo")) == {*NOUNS, *COMMANDS}
    assert names(app_for()) == {*NOUNS, *COMMANDS}


@pytest.mark.parametrize("first", [*NOUNS, *COMMANDS])
def test_what_a_word_stands_for_is_the_same_alone(first: str) -> None:
    alone, whole = (typer.main.get_command(app) for app in (app_for(first), app_for()))
    assert isinstance(alone, TyperGroup)
    assert isinstance(whole, TyperGroup)
    assert spelled(alone.commands[first]) == spelled(whole.commands[first])


def spelled(command: object) -> object:
    """A command, its options and its commands."""
    if isinstance(command, TyperGroup):
        return {name: spelled(each) for name, each in command.commands.items()}
    assert isinstance(command, TyperCommand)
    return [each.name for each in command.params]


def test_the_words_for_this_machine_are_those_that_are_there() -> None:
    app = bare()
    machine.register(app)
    assert names(app) == way_in._MACHINE

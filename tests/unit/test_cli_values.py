"""Values on the command line that cannot be taken: what was given is told, and what is allowed."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from service.cli.main import NOUNS, app_for
from service.local.commands import register


def test_no_line_of_the_help_is_cut_off() -> None:
    """On a terminal of 80 columns."""
    whole = app_for()
    register(whole)
    for app, words in ((whole, []), *((app_for(noun), [noun]) for noun in NOUNS)):
        told = CliRunner().invoke(app, [*words, "--help"], terminal_width=80).output
        _, _, listed = told.partition("Commands:")
        assert listed and "..." not in listed, listed


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("job", "run", "-c", "-1", "x"), "'-1' is not allowed; it must be 0 or more"),
        (("job", "run", "-c", "1.5", "x"), "'1.5' is not allowed; it must be a whole number"),
        (("job", "run", "-p", "99999", "x"), "'99999' is not allowed; it must be 65535 or less"),
        (("job", "list", "--limit", "0"), "'0' is not allowed; it must be 1 or more"),
        (("job", "logs", "--tail", "few", "x"), "'few' is not allowed; it must be a whole number"),
        (("job", "list", "-o", "xml"), ": 'xml' is not one of 'json', 'yaml'."),
    ],
)
def test_what_cannot_be_taken_is_told(words: tuple[str, ...], said: str) -> None:
    told = CliRunner().invoke(app_for(), words)
    assert (told.exit_code, said in told.output) == (2, True), told.output

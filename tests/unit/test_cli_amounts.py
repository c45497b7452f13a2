"""Amounts below nothing on the command line: a word about the amount, not about options."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from service.cli.main import app_for


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("billing", "credit", "-1", "--reason", "x"), "AMOUNT: '-1' is not allowed"),
        (("billing", "credit", "--reason", "x", "-2.50"), "AMOUNT: '-2.50' is not allowed"),
        (("budget", "set", "vision", "-1"), "AMOUNT: '-1' is not allowed"),
        (("budget", "set", "vision", "1", "-x"), "No such option: -x"),
    ],
)
def test_an_amount_below_nothing_is_named(words: tuple[str, ...], said: str) -> None:
    told = CliRunner().invoke(app_for(), words)
    assert (told.exit_code, said in told.output) == (2, True), told.output

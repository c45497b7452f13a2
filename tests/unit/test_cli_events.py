"""What `jobyard events` says of an event, in short."""

from __future__ import annotations

from typer.testing import CliRunner

from service.cli.events import in_short
from service.cli.main import app_for


def test_a_warning_of_a_budget_tells_what_was_spent_of_it() -> None:
    data = {"share": "0.8", "spent": "8.100000", "limit": "10", "currency": "EUR", "period": "2026-11"}
    said = in_short("BudgetWarned", data).plain
    assert said == "0.8 of the budget of 2026-11 is reached: 8.100000 of 10 EUR were spent"


def test_the_help_says_where_it_begins() -> None:
    said = CliRunner().invoke(app_for("events"), ["events", "--help"], terminal_width=200).output
    assert "Only what follows it; 0: all; now. Default: 0, with --follow now." in said

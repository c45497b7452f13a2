"""What `jobyard events` says of an event, in short."""

from __future__ import annotations

from service.cli.events import in_short


def test_a_warning_of_a_budget_tells_what_was_spent_of_it() -> None:
    data = {"share": "0.8", "spent": "8.100000", "limit": "10", "currency": "EUR", "period": "2026-11"}
    said = in_short("BudgetWarned", data).plain
    assert said == "0.8 of the budget of 2026-11 is reached: 8.100000 of 10 EUR were spent"

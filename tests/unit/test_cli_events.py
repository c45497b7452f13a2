"""What `jobyard events` says of an event, in short."""

from __future__ import annotations

from typing import Any

import pytest
from typer.testing import CliRunner

from service.cli import events
from service.cli.client import Client
from service.cli.events import FIRST_PAUSE_S, in_short
from service.cli.main import app_for
from service.cli.output import Format, Output
from service.cli.where import Where


def test_a_warning_of_a_budget_tells_what_was_spent_of_it() -> None:
    data = {"share": "0.8", "spent": "8.100000", "limit": "10", "currency": "EUR", "period": "2026-11"}
    said = in_short("BudgetWarned", data).plain
    assert said == "0.8 of the budget of 2026-11 is reached: 8.100000 of 10 EUR were spent"


def test_the_help_says_where_it_begins() -> None:
    said = CliRunner().invoke(app_for("events"), ["events", "--help"], terminal_width=200).output
    assert "Only what follows it; 0: all; now. Default: 0, with --follow now." in said


def _control(kind: str) -> Any:
    return {"type": f"jobyard.{kind}", "data": {"position": 7, "ledgerId": "l", "epoch": 1}}


@pytest.mark.parametrize("follows", [_control("heartbeat"), {"type": "jobyard.LabelSet", "id": "8"}])
async def test_a_service_that_greets_and_then_fails_is_asked_less_and_less_often(
    monkeypatch: pytest.MonkeyPatch, follows: Any
) -> None:
    monkeypatch.setattr(events, "reader_left", lambda _: False)
    monkeypatch.setattr(events, "show", lambda *_: None)
    async with Client(Where("http://127.0.0.1:9", "x")) as client:
        following = events._Following(client, Output(Format.JSON), [], "7")
    for _ in range(4):
        next(following._pauses)
    following._take(_control("hello"))
    assert next(following._pauses) > FIRST_PAUSE_S
    following._take(follows)
    assert next(following._pauses) <= FIRST_PAUSE_S

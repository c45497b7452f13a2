"""What is asked before something goes for good, and how jobs of the past are listed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from service.cli import ask, exits, job, job_list
from service.cli.main import app_for
from service.errors import Rejected


def test_where_nobody_can_be_asked_the_question_and_the_way_out_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Path(os.devnull).open() as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        with pytest.raises(Rejected) as refused:
            ask.agreed("Erase it for good?", otherwise="--yes says that you are sure")
    said = "Erase it for good? There is no terminal to ask at: --yes says that you are sure"
    assert refused.value.message == said
    assert exits.of_error(refused.value) is exits.Exit.USAGE


def test_a_list_of_then_has_no_ages() -> None:
    names = [column if isinstance(column, str) else column.name for column in job_list._COLUMNS_OF_THEN]
    assert ("CREATED" in names, "AGE" in names) == (True, False)
    shown = {
        "id": "j",
        "createdAt": "2026-11-28T02:05:30Z",
        "spec": {"image": "i"},
        "status": {"state": "DONE", "erasedAt": "2026-11-28T02:06:30Z"},
    }
    assert "2026-11-28 02:05:30" in job_list._row(shown, "2026-11-28 02:05:30")
    assert job.shown(shown)["secrets"].startswith("erased 2026-11-28")


def test_an_exit_code_that_is_the_engines_is_said_to_be() -> None:
    def exit_code(why: str) -> Any:
        status = {"state": "FAILED", "exitCode": 255, "info": {"code": why, "message": "so"}}
        return job.shown({"id": "j", "spec": {"image": "i"}, "status": status})["exit code"]

    assert exit_code("exit-code") == 255
    assert exit_code("unknown-outcome") == "255, as the engine says, which missed how the process ended"


def test_what_erasing_a_project_takes_is_said_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBYARD_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("JOBYARD_TOKEN", "t")
    for words in (["--help"], ["vision"]):
        said = CliRunner().invoke(app_for("project"), ["project", "erase", *words], terminal_width=300).output
        for word in ("data stores", "registries", "webhooks", "paused"):
            assert word in said, (words, said)

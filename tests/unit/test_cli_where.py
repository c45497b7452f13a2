"""Which database a command reads that reads one itself."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from service.cli import where
from service.errors import Misconfigured, Unavailable

LOCAL, LEDGER = "http://127.0.0.1:8080", "postgresql:///here"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    up = where.Up(url=LOCAL, token="t", pid=os.getpid(), database_url=LEDGER)
    (tmp_path / where.UP_FILE).write_bytes(msgspec.json.encode(up))
    return tmp_path


def _found(state: Path, *, named: bool = False, **environ: str) -> str:
    if named:
        return where.database(None, state, environ)
    return where.database(None, None, {"JOBYARD_STATE_DIR": str(state), **environ})


def test_it_is_that_of_the_service_that_runs_here(state: Path) -> None:
    assert _found(state) == LEDGER
    assert _found(state, JOBYARD_URL=f"{LOCAL}/") == LEDGER, "the same one by its name"
    assert (
        _found(state, DATABASE_URL="postgresql:///there", JOBYARD_URL="http://other") == "postgresql:///there"
    )


def test_another_service_is_never_taken_for_the_one_that_runs_here(state: Path) -> None:
    with pytest.raises(Misconfigured, match=r"JOBYARD_URL names http://other, .*--database-url.*--state"):
        _found(state, JOBYARD_URL="http://other/")
    assert _found(state, named=True, JOBYARD_URL="http://other") == LEDGER, "but by its state directory it is"


def test_where_nothing_runs_nothing_is_read(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        _found(tmp_path, JOBYARD_URL="http://other")

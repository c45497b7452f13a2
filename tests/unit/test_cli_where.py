"""Which database a command reads that reads one itself."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from service.cli import exits, where
from service.cli.main import app_for
from service.errors import Invalid, Misconfigured, Unavailable

LOCAL, LEDGER = "http://127.0.0.1:8080", "postgresql:///here"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    up = where.Up(url=LOCAL, token="t", pid=os.getpid(), database_url=LEDGER)
    (tmp_path / where.UP_FILE).write_bytes(msgspec.json.encode(up))
    return tmp_path


def _found(state: Path, *, named: bool = False, **environ: str) -> str:
    if named:
        return where.database(None, state, environ).url
    return where.database(None, None, {"JOBYARD_STATE_DIR": str(state), **environ}).url


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


@pytest.mark.parametrize("line", ["audit verify", "projections verify", "projections rebuild"])
def test_where_nothing_runs_it_is_told_what_says_where_the_database_is(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBYARD_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("DATABASE_URL", raising=False)
    done = CliRunner().invoke(app_for(line.partition(" ")[0]), line.split())
    assert done.exit_code == exits.Exit.UNREACHABLE
    for way in ("--database-url", "DATABASE_URL", "--state", "JOBYARD_STATE_DIR"):
        assert way in done.stderr
    assert "--token" not in done.stderr and " --url" not in done.stderr, "it has no such options"
    asked = CliRunner().invoke(app_for("me"), ["me"])
    assert "give --url and --token" in asked.stderr, "but a command that asks the service has"


def test_a_database_that_refuses_is_told_by_what_named_it(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"127.0.0.1:{taken.getsockname()[1]}/yard"
    given = f"postgresql://ann:hidden@{nobody}"
    monkeypatch.setenv("DATABASE_URL", given)
    line = ["projections", "verify"]
    for words, name in ((line, "DATABASE_URL"), ([*line, "--database-url", given], "--database-url")):
        done = CliRunner().invoke(app_for("projections"), words)
        assert done.exit_code == exits.Exit.UNREACHABLE
        assert done.stderr.startswith(f"jobyard: {name}: postgresql://ann@{nobody}: Postgres did not answer")
        assert "hidden" not in done.stderr
    monkeypatch.delenv("DATABASE_URL")
    (state / where.UP_FILE).write_bytes(
        msgspec.json.encode(where.Up(url=LOCAL, token="t", pid=os.getpid(), database_url=given))
    )
    done = CliRunner().invoke(app_for("projections"), [*line, "--state", str(state)])
    assert done.stderr.startswith(f"jobyard: the database of the service at {LOCAL}: postgresql://ann@")


REMOTE = {"JOBYARD_URL": "http://other", "JOBYARD_TOKEN": "theirs"}


@pytest.mark.parametrize("empty", ["", " ", "\n"])
def test_what_is_there_and_empty_never_leads_to_the_service_that_runs_here(state: Path, empty: str) -> None:
    """A script names it from a variable that is not set: here it would be the administrator."""
    for name, url, token in (
        ("--url", empty, None),
        ("--token", None, empty),
        ("--token", "http://x", empty),
    ):
        for environ in ({}, REMOTE):
            with pytest.raises(Invalid, match=f"^{name}: .* is not allowed; it is empty"):
                where.find(url, token, state, environ)
    for name in REMOTE:
        with pytest.raises(Invalid, match=f"^{name}: .* is not allowed; it is empty"):
            where.find(None, None, state, {**REMOTE, name: empty})
    with pytest.raises(Invalid, match=r"^JOBYARD_STATE_DIR: .* it is empty"):
        where.find(None, None, None, {"JOBYARD_STATE_DIR": empty})
    with pytest.raises(Invalid, match=r"^--database-url: .* it is empty"):
        where.database(empty, state, {})
    for name in ("DATABASE_URL", "JOBYARD_URL"):
        with pytest.raises(Invalid, match=f"^{name}: .* it is empty"):
            where.database(None, None, {"JOBYARD_STATE_DIR": str(state), name: empty})


def test_a_variable_for_a_secret_that_is_there_and_empty_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBYARD_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("JOBYARD_TOKEN", "t")
    git, s3 = "datastore add git team https://h/team -u ann", "datastore add s3 gra https://h gra KEY"
    for name, line in (
        ("JOBYARD_GIT_PASSWORD", git),
        ("JOBYARD_S3_SECRET_KEY", s3),
        ("JOBYARD_REGISTRY_PASSWORD", "registry add https://h ann"),
    ):
        with monkeypatch.context() as here:
            here.setenv(name, "")
            done = CliRunner().invoke(app_for(line.partition(" ")[0]), line.split())
        assert done.exit_code == exits.Exit.USAGE, done.output
        assert f"{name}: '' is not allowed; it is empty" in done.stderr


def test_an_option_stands_before_a_variable_that_is_empty(state: Path) -> None:
    found = where.find("http://x/", "mine", state, {"JOBYARD_URL": "", "JOBYARD_TOKEN": ""})
    assert (found.url, found.token) == ("http://x", "mine")


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("me --token=", "--token"),
        ("me --url=", "--url"),
        ("me --state=", "--state"),
        ("job run --name= image", "--name"),
        ("job run -n  image", "--name"),
        ("billing export --file=", "--file"),
        ("token create ci --label-selector=", "--label-selector"),
    ],
)
def test_an_option_that_is_empty_is_bad_usage(
    line: str, name: str, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBYARD_STATE_DIR", str(state))
    said = CliRunner().invoke(app_for(line.partition(" ")[0]), line.split(" "))
    # What reads --state raises before there is a command that could say it; `__main__` says it then.
    told = said.exception.message if isinstance(said.exception, Invalid) else said.stderr
    assert f"{name}: '' is not allowed; it is empty; give it a value, or leave it out" in told
    assert isinstance(said.exception, Invalid) or said.exit_code == exits.Exit.USAGE

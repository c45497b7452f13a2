"""What is left of a Postgres, or looks as if it were: no server of ours is ever taken for gone."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.errors import Misconfigured, Unavailable
from service.local import processes, throwaway
from service.local.postgres import EmbeddedPostgres


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "postgres" / "data"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
async def other() -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec("sleep", "1000")
    yield process
    process.kill()
    await process.wait()


def hidden(monkeypatch: pytest.MonkeyPatch, pid: int) -> None:
    """As the kernel hides where another user's process works."""
    resolve = Path.resolve

    def refusing(self: Path, strict: bool = False) -> Path:
        if str(self) == f"/proc/{pid}/cwd":
            raise PermissionError(13, os.strerror(13), str(self))
        return resolve(self, strict)

    monkeypatch.setattr(Path, "resolve", refusing)


@pytest.mark.parametrize("text", ["", "\n", "no number\n", "999999999\n"])
async def test_a_record_that_names_nobody_is_taken_away(data: Path, text: str) -> None:
    """Postgres would not start beside it."""
    record = data / "postmaster.pid"
    record.write_text(text)
    assert await EmbeddedPostgres(data.parents[1], say=print)._running_in(data) is None
    assert not record.exists()


async def test_somebody_elses_process_is_not_our_postgres(
    data: Path, other: asyncio.subprocess.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = data / "postmaster.pid"
    record.write_text(f"{other.pid}\n{data}\n")
    hidden(monkeypatch, other.pid)
    assert await EmbeddedPostgres(data.parents[1], say=print)._running_in(data) is None
    assert not record.exists() and other.returncode is None


async def test_a_server_that_may_not_be_looked_at_is_known_by_its_arguments(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of root in a container without the right to trace."""
    words = ("sh", "-c", "read x", "-D", data)
    server = await asyncio.create_subprocess_exec(*words, stdin=asyncio.subprocess.PIPE)
    record = data / "postmaster.pid"
    record.write_text(f"{server.pid}\n{data}\n")
    hidden(monkeypatch, server.pid)
    found = await EmbeddedPostgres(data.parents[1], say=print)._running_in(data)
    assert found is not None and found.pid == server.pid and record.exists()
    server.kill()
    await server.communicate()


async def test_why_it_does_not_start_is_read_although_its_log_was_set_aside(state: Path) -> None:
    server = EmbeddedPostgres(state, say=print)
    await server.start()
    await server.stop()
    (state / "postgres" / "data" / "PG_VERSION").write_text("7\n")
    with (state / "postgres.log").open("wb") as large:
        large.truncate(processes._LOG_LIMIT_BYTES + 1)
    with pytest.raises(Unavailable, match="database files are incompatible with server"):
        await server.start()


@pytest.mark.parametrize("text", ["", "\n", "postgres\n"])
async def test_a_database_lies_and_is_deleted_only_where_it_is_said_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """An empty file, as a full disk may leave it, was the directory that somebody stood in."""
    stands_in, state = tmp_path / "here", tmp_path / "state"
    stands_in.mkdir()
    state.mkdir()
    (state / "postgres.path").write_text(text)
    monkeypatch.chdir(stands_in)
    with pytest.raises(Misconfigured, match=r"postgres\.path must hold the absolute path"):
        await EmbeddedPostgres(state, say=print).start()
    with pytest.raises(Misconfigured, match=r"postgres\.path must hold the absolute path"):
        throwaway.remove(state)
    assert stands_in.exists() and not list(stands_in.iterdir())

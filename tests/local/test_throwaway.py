"""State directories that are thrown away: swept once nobody has them, and not before."""

from __future__ import annotations

import asyncio
import fcntl
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from service.local import throwaway


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where throw-away directories are; those of other runs on this machine are none of this test's."""
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def no_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock of a directory that is in use, and nothing that is used."""

    @asynccontextmanager
    async def emptied(state: Path, **_: Any) -> AsyncIterator[Path]:
        with (state / "lock").open("a+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield state

    monkeypatch.setattr(throwaway, "_emptied", emptied)


def abandoned(folder: Path) -> Path:
    state = folder / "jobyard-throwaway-killed"
    state.mkdir()
    (state / "lock").touch()
    return state


@pytest.mark.usefixtures("no_parts")
async def test_what_is_being_removed_is_not_swept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    removed: list[Path] = []
    remove = throwaway.remove

    def removing(state: Path) -> None:
        """Another run starts meanwhile."""
        assert (state / "lock").exists()
        if not removed:
            removed.append(state)
            asyncio.run(throwaway._sweep(said.append))
            assert said == [] and removed == [state]
        remove(state)

    monkeypatch.setattr(throwaway, "remove", removing)
    async with throwaway.throwaway_parts(say=said.append):
        (used,) = folder.iterdir()
        await throwaway._sweep(said.append)
        assert used.exists() and said == []
    assert removed == [used] and not used.exists()


@pytest.mark.usefixtures("no_parts")
async def test_what_a_killed_run_left_is_swept_once(folder: Path) -> None:
    state = abandoned(folder)
    said: list[str] = []
    await asyncio.gather(*(throwaway._sweep(said.append) for _ in range(3)))
    assert not state.exists() and said == [f"Removing what a killed run left: {state}"]


@pytest.mark.usefixtures("no_parts")
async def test_what_an_older_version_uses_is_left(folder: Path) -> None:
    """It locks the file alone."""
    state = abandoned(folder)
    with (state / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        await throwaway._sweep(print)
        assert state.exists()


@pytest.mark.usefixtures("no_parts")
async def test_what_goes_as_it_is_looked_at_is_no_obstacle(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throwaway, "_there", lambda: [folder / "jobyard-throwaway-gone"])
    await throwaway._sweep(print)
    other = folder / "jobyard-throwaway-link"
    other.symlink_to(abandoned(folder))
    monkeypatch.setattr(throwaway, "_there", lambda: [other])
    await throwaway._sweep(print)
    assert other.is_symlink() and other.exists()

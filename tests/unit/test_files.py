"""Files that outlive a power cut: what is safe on the disk when the call returns, and who made them."""

from __future__ import annotations

import os
import stat
from errno import ENOSPC
from pathlib import Path

import pytest

from service.files import make_once, settle


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What is known to be on the disk, in order."""
    found: list[Path] = []
    fsync = os.fsync

    def seen(descriptor: int) -> None:
        found.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", seen)
    return found


def test_a_new_file_and_every_folder_that_is_new_are_safe(tmp_path: Path, synced: list[Path]) -> None:
    path = tmp_path / "a" / "b" / "key"
    assert make_once(path, b"data", 0o600) == b"data"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["key"], "no draft is left"
    draft, *folders = synced
    assert draft.parent == path.parent
    assert folders == [path.parent, tmp_path / "a", tmp_path]


def test_the_first_counts(tmp_path: Path) -> None:
    path = tmp_path / "key"
    make_once(path, b"first")
    assert make_once(path, b"second") == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_on_a_full_disk_there_is_nothing_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        make_once(tmp_path / "key", b"data")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        settle(tmp_path / "gone")

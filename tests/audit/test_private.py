"""Files that are their owner's alone, and whole or not there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from service.cli.private import private_file


def test_nobody_else_reads_it_whatever_was_there_before(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        for name in ("new", "old"):
            file = tmp_path / name
            if name == "old":
                file.write_text("open to all")
            with private_file(file) as into:
                assert [stat.S_IMODE(each.stat().st_mode) for each in tmp_path.glob(f".{name}.*")] == [0o600]
                into.write(b"secret")
            assert (stat.S_IMODE(file.stat().st_mode), file.read_bytes()) == (0o600, b"secret")
    finally:
        os.umask(before)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["new", "old"]


def test_what_cannot_be_written_is_named_as_it_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error, private_file(tmp_path / "no" / "file"):
        pass
    assert error.value.filename == str(tmp_path / "no" / "file")


def test_what_is_not_written_to_its_end_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "kept"
    file.write_text("kept")
    with pytest.raises(KeyboardInterrupt), private_file(file) as into:
        into.write(b"half")
        raise KeyboardInterrupt
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("kept", "kept")]

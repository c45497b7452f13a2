"""The service's log: whole lines, whoever writes and whatever the disk has room for, and never too much."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.errors import Misconfigured
from service.local import log_file, up
from service.local.log_file import LogFile


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "LIMIT_BYTES", 20)


def test_a_file_that_has_grown_too_large_is_set_aside_once(tmp_path: Path) -> None:
    path = tmp_path / "jobyard.log"
    with log_file.in_state(path) as first, log_file.in_state(path) as second:
        first.write("one, by the first\n")
        second.write("two, by the second\n")
        first.write("three\n")
        second.write("four\n")
        assert (tmp_path / "jobyard.log.1").read_text() == "one, by the first\ntwo, by the second\n"
        assert path.read_text() == "three\nfour\n"
        for number in range(100):
            (first, second)[number % 2].write(f"line {number}\n")
    kept = (tmp_path / "jobyard.log.1").read_text() + path.read_text()
    assert kept.endswith("line 98\nline 99\n") and len(kept) < 100
    assert sorted(each.name for each in tmp_path.iterdir()) == ["jobyard.log", "jobyard.log.1"]


def test_a_file_that_cannot_be_set_aside_is_written_on(tmp_path: Path) -> None:
    path = tmp_path / "jobyard.log"
    (tmp_path / "jobyard.log.1" / "in the way").mkdir(parents=True)
    with log_file.in_state(path) as log:
        for _ in range(4):
            log.write("some text of it\n")
    assert path.read_text() == "some text of it\n" * 4


def test_letters_are_utf_8_and_what_is_none_is_written_still(tmp_path: Path) -> None:
    path = tmp_path / "jobyard.log"
    with log_file.in_state(path) as log:
        log.write("…\udc80\n")
    assert path.read_bytes() == "…\\udc80\n".encode()


def test_a_line_that_was_cut_off_is_not_continued(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a disk does that has room for some bytes more."""
    written: list[bytes] = []
    room = [4, 0]

    def write(_descriptor: int, data: memoryview) -> int:
        size = room.pop(0) if room else len(data)
        if not size:
            raise OSError(28, os.strerror(28))
        written.append(bytes(data[:size]))
        return size

    log = LogFile(2)
    monkeypatch.setattr(os, "write", write)
    with pytest.raises(OSError, match="No space left"):
        log.write("a long line\n")
    log.write("one\n")
    log.write("two\n")
    assert b"".join(written) == b"a lo\none\ntwo\n"


def test_a_folder_that_cannot_be_written_is_told_of() -> None:
    with (
        pytest.raises(Misconfigured, match="nothing can be written in /proc"),
        log_file.in_state(Path("/proc/jobyard.log")),
    ):
        raise AssertionError


def test_a_reader_that_has_gone_is_no_reason_not_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `tee` has after Ctrl-C, which ends it as well."""
    reads, writes = os.pipe()
    os.close(reads)
    with os.fdopen(writes, "w") as stream:
        monkeypatch.setattr("sys.stdout", stream)
        up._say("Stopping")
        up._say("Stopped")

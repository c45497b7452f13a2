"""Checkpoints as text: what is written is read, and nothing else is."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.checkpoint import Checkpoint, NotACheckpoint, Note, PublicKey, read_key, read_note
from service.errors import Invalid

KEY = PublicKey("jobyard/0", b"\7" * 32)
MADE = Checkpoint(
    "jobyard/0", 600, b"\1" * 32, b"\2" * 32, 1, 520, datetime(2026, 11, 28, 1, 2, 3, 4, tzinfo=UTC)
)
NOTE = Note(MADE, KEY.name, KEY.id, b"\3" * 64)


def test_a_note_reads_back() -> None:
    assert read_note(NOTE.text) == NOTE
    assert NOTE.text.startswith("jobyard/0\n600\n")
    assert NOTE.text.count("\n\n") == 1


@given(
    st.builds(
        Checkpoint,
        st.just("jobyard/x"),
        st.integers(0, 10**18),
        st.binary(min_size=32, max_size=32),
        st.binary(min_size=32, max_size=32),
        st.integers(0, 10**9),
        st.integers(0, 10**18),
        st.datetimes(min_value=datetime(1000, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    )
)
def test_any_note_reads_back(checkpoint: Checkpoint) -> None:
    note = NOTE._replace(checkpoint=checkpoint)
    assert read_note(note.text) == note


@given(at=st.integers(0, len(NOTE.text) - 1), char=st.characters(codec="utf-8"))
def test_another_character_makes_another_note_or_none(at: int, char: str) -> None:
    text = NOTE.text[:at] + char + NOTE.text[at + 1 :]
    try:
        assert (read_note(text) == NOTE) is (text == NOTE.text)
    except NotACheckpoint:
        assert text != NOTE.text


@pytest.mark.parametrize(
    "text",
    [
        "",
        NOTE.text[:-1],
        NOTE.text + "\n",
        NOTE.text + "— jobyard/0 AAAA\n",
        NOTE.text.replace("\n600\n", "\n0600\n"),
        NOTE.text.replace("chain", "other"),
        NOTE.text.replace("2026-11-28", "2026-13-28"),
        NOTE.text.replace("\n", "\r\n"),
    ],
)
def test_what_is_not_written_so_is_none(text: str) -> None:
    with pytest.raises(NotACheckpoint):
        read_note(text)


def test_a_key_reads_back() -> None:
    assert read_key(KEY.text) == KEY
    assert read_key(f" {KEY.text}\n") == KEY


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "jobyard/0",
        KEY.text[:-4],
        KEY.text.replace("jobyard/0", "jobyard/1"),
        KEY.text + "=",
        "a+b+c",
    ],
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="key"):
        read_key(text)

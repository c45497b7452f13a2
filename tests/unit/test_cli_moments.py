"""Moments as people write them after --as-of, --from and --to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from service.cli import moments
from service.errors import Invalid


@pytest.mark.parametrize("text", ["0", "12", " 12 ", "9223372036854775807"])
def test_a_number_is_a_position(text: str) -> None:
    assert moments.moment_of("--from", text) == text.strip()


def test_a_time_is_sent_in_utc() -> None:
    assert moments.as_of("2026-11-28T03:00:00+01:00") == "2026-11-28T02:00:00Z"
    assert moments.as_of("2026-11-28T02:00:00.25Z") == "2026-11-28T02:00:00.250000Z"
    assert moments.as_of(None) is None


@pytest.mark.parametrize(("text", "ago"), [("2h", timedelta(hours=2)), ("1d12h", timedelta(days=1.5))])
def test_how_long_ago_it_was(text: str, ago: timedelta) -> None:
    before = datetime.now(UTC)
    found = datetime.fromisoformat(moments.moment_of("--as-of", text))
    assert before <= found + ago <= datetime.now(UTC)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("yesterday", "write a position, a time such as 2026-01-31T12:00:00Z, or how long ago"),
        ("-3", "write a position"),
        ("1.5", "write a position"),
        ("", "write a position"),
        ("99999999999w", "write a position"),
        ("2026-11-28T02:00:00", "say which zone it is in, such as 2026-11-28T02:00:00Z"),
        ("2026-11-28", "say which zone it is in, such as 2026-11-28T00:00:00Z"),
    ],
)
def test_what_is_no_moment_is_named_with_the_forms(text: str, words: str) -> None:
    with pytest.raises(Invalid) as refused:
        moments.as_of(text)
    assert refused.value.field == "--as-of"
    assert words in refused.value.allowed

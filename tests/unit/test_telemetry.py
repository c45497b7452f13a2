"""The log: one JSON object a line, and no secrets, not even where an exception passed by one."""

from __future__ import annotations

import io
import json
import logging
import os
from dataclasses import dataclass

import pytest
import structlog

from tests.support import logs


def test_a_logged_exception_says_where_but_not_what_stood_in_the_variables() -> None:
    with logs.set_up() as stream:
        try:
            _fail_beside("correct horse battery staple")
        except ValueError:
            structlog.get_logger().exception("it failed", job="7")
    line = json.loads(stream.getvalue())
    assert line["event"] == "it failed" and line["job"] == "7"
    assert line["exception"][0]["exc_type"] == "ValueError"
    assert "_fail_beside" in stream.getvalue()
    assert "horse" not in stream.getvalue()


def _fail_beside(secret: str) -> None:
    raise ValueError(f"a text of {len(secret)} characters")


@dataclass
class _Guarded:
    """msgspec would write its field; what it shows of itself is its repr."""

    value: str

    def __repr__(self) -> str:
        return "guarded"


def test_what_an_object_hides_stays_hidden_and_what_is_no_text_is_written_still() -> None:
    with logs.set_up() as stream:
        log = structlog.get_logger()
        log.info("one", value=_Guarded("horse"), many=[_Guarded("horse")])
        log.info("two", path="\udc80", number=2**70)
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert "horse" not in stream.getvalue()
    assert (first["value"], first["many"]) == ("guarded", ["guarded"])
    assert (second["path"], second["number"]) == ("\udc80", 2**70)


class _Refusing(io.StringIO):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error: Exception | None = error

    def flush(self) -> None:
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, os.strerror(28)),
        BrokenPipeError(32, os.strerror(32)),
        ValueError("I/O operation on closed file"),
        UnicodeEncodeError("latin-1", "\u2026", 0, 1, "ordinal not in range(256)"),
    ],
)
def test_a_line_that_cannot_be_written_is_all_that_is_lost(error: Exception) -> None:
    """Who says something goes on with its work: the supervisor, say, or the answer to a request."""
    file = _Refusing(error)
    with logs.set_up(file=file):
        structlog.get_logger().warning("the first")
        logging.getLogger("asyncpg.pool").warning("the second")
        file.error = None
        structlog.get_logger().warning("the third")
    assert json.loads(file.getvalue().splitlines()[-1])["event"] == "the third"

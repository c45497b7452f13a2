"""The log: one JSON object a line, and no secrets, not even where an exception passed by one."""

from __future__ import annotations

import io
import json

import structlog

from service.telemetry import set_up_logging


def test_a_logged_exception_says_where_but_not_what_stood_in_the_variables() -> None:
    stream = io.StringIO()
    set_up_logging(file=stream)
    try:
        _fail_beside("correct horse battery staple")
    except ValueError:
        structlog.get_logger().exception("it failed", job="7")
    finally:
        structlog.reset_defaults()
    line = json.loads(stream.getvalue())
    assert line["event"] == "it failed" and line["job"] == "7"
    assert line["exception"][0]["exc_type"] == "ValueError"
    assert "_fail_beside" in stream.getvalue()
    assert "horse" not in stream.getvalue()


def _fail_beside(secret: str) -> None:
    raise ValueError(f"a text of {len(secret)} characters")

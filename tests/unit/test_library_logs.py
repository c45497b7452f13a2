"""Every line of the log is one JSON object, whoever says it."""

from __future__ import annotations

import base64
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from service.api.auth import PREFIX, new_value
from service.api.handshake import SOCKET_TOKEN
from tests.support import logs


@pytest.fixture
def said() -> Iterator[io.StringIO]:
    with logs.set_up() as file:
        yield file


def lines(said: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said.getvalue().splitlines()]


def test_a_library_that_tells_of_an_error_leaves_one_line_and_no_values(said: io.StringIO) -> None:
    """As asyncpg's pool does, when Postgres was killed."""
    password = "p" * 20
    try:
        raise ConnectionRefusedError(f"refused {len(password)}")
    except ConnectionRefusedError:
        logging.getLogger("asyncpg.pool").exception("no connection for %s", "the pool")
    (line,) = lines(said)
    assert (line["event"], line["library"], line["level"]) == (
        "no connection for the pool",
        "asyncpg.pool",
        "error",
    )
    assert line["exception"][0]["exc_type"] == "ConnectionRefusedError"
    assert password not in said.getvalue()


def test_a_token_that_a_library_quotes_is_not_written(said: io.StringIO) -> None:
    """As aiohttp does, of a websocket whose only sub-protocol carries the token."""
    value = new_value()
    carried = base64.urlsafe_b64encode(value.encode()).decode().rstrip("=")
    offered = [SOCKET_TOKEN + carried, value, "soap"]
    logging.getLogger("aiohttp.websocket").warning("Client protocols %r do not overlap", offered)
    (line,) = lines(said)
    shown = f"Client protocols ['{SOCKET_TOKEN}***', '{PREFIX}***', 'soap'] do not overlap"
    assert line["event"] == shown


def test_what_a_library_says_by_the_way_is_left_out(said: io.StringIO) -> None:
    logging.getLogger("aiohttp.access").info("GET /")
    logging.getLogger("botocore").debug("headers")
    assert said.getvalue() == ""

"""A database that cannot be used is told by what named it, with what was given and without its password."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import pytest

from service.errors import JobyardError, Misconfigured, Unavailable
from service.ledger import address
from tests.support import databases

NAME, PASSWORD = "DATABASE_URL", "hid-den"


def _at(port: int, rest: str = "") -> str:
    return f"postgresql://ann:{PASSWORD}@127.0.0.1:{port}/yard{rest}"


async def _said(url: str) -> JobyardError:
    with pytest.raises((Misconfigured, Unavailable)) as refused:
        await address.require(NAME, url)
    shown: BaseException | None = refused.value
    while shown is not None:
        assert PASSWORD not in str(shown)
        shown = None if shown.__suppress_context__ and shown.__cause__ is None else shown.__cause__
    assert refused.value.message.startswith(f"{NAME}: ")
    return refused.value


async def test_one_that_can_be_used(database_url: str) -> None:
    await address.require(NAME, database_url)


async def test_a_connection_that_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    said = await _said(_at(port, "?sslmode=disable"))
    assert isinstance(said, Unavailable)
    assert f"postgresql://ann@127.0.0.1:{port}/yard?sslmode=disable: " in said.message
    assert "Postgres did not answer" in said.message and "Connect call failed" in said.message


async def test_no_such_database_and_no_such_role() -> None:
    said = await _said(databases.url_of("jobyard_nowhere"))
    assert isinstance(said, Misconfigured) and "/jobyard_nowhere" in said.message
    assert 'Postgres refused the connection: database "jobyard_nowhere" does not exist' in said.message
    parts = urlsplit(databases.url_of("postgres"))
    host = parts.netloc.rpartition("@")[2]
    said = await _said(parts._replace(netloc=f"nobody-here:{PASSWORD}@{host}").geturl())
    assert isinstance(said, Misconfigured) and "//nobody-here@" in said.message
    assert 'role "nobody-here" does not exist' in said.message or "authentication failed" in said.message


@pytest.mark.parametrize(
    "url",
    [
        f"postgres://ann:{PASSWORD}/ss@127.0.0.1/yard",
        f"postgres://ann:pass/{PASSWORD}@127.0.0.1/yard",
        f"postgres://ann:{PASSWORD}#ss@127.0.0.1/yard",
        f"postgres://ann:ss?{PASSWORD}@127.0.0.1/yard",
        f"postgres://127.0.0.1:{PASSWORD}/yard",
        f"ann:{PASSWORD}@127.0.0.1/yard",
        f"ann:{PASSWORD}",
        PASSWORD,
    ],
)
async def test_what_is_no_url_is_not_shown(url: str) -> None:
    said = await _said(url)
    assert isinstance(said, Misconfigured) and "it must be postgresql://USER:PASSWORD@HOST" in said.message


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (_at(5432), "postgresql://ann@127.0.0.1:5432/yard"),
        (f"postgresql:///yard?host=/run/pg&password={PASSWORD}", "postgresql:///yard?host=/run/pg"),
        (f"postgresql://ann:{PASSWORD}@one:1,[::1]:2/yard", "postgresql://ann@one:1,[::1]:2/yard"),
        (f"postgresql://ann:a@{PASSWORD}@one/yard", "postgresql://ann@one/yard"),
        ("mysql://one/yard", "mysql://one/yard"),
    ],
)
def test_what_is_shown_of_a_url(url: str, shown: str) -> None:
    assert address.without_password(url) == shown

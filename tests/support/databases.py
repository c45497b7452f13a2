"""A database a test: one is migrated once a session, and every test gets a copy of it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg

from service.ledger.migrate import migrate
from tests.support.parts import DATABASE


def url_of(name: str) -> str:
    """The superuser's URL of a database on the server under test."""
    parts = urlsplit(os.environ[DATABASE])
    # urlunsplit would drop the empty host of a socket's URL.
    return urlunsplit(parts._replace(netloc=parts.netloc or "postgres@", path=f"/{name}"))


@asynccontextmanager
async def server() -> AsyncIterator[asyncpg.Connection]:
    """A connection from which databases can be made and dropped."""
    connection = await asyncpg.connect(os.environ[DATABASE])
    try:
        yield connection
    finally:
        await connection.close()


async def make(name: str, template: str = "template0") -> str:
    """A new database; its URL. Copied as files: half the work of a copy by the log."""
    async with server() as connection:
        await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY')
    return url_of(name)


async def drop(name: str) -> None:
    async with server() as connection:
        await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


async def make_template() -> str:
    """A migrated database; its name."""
    name = f"jobyard_template_{uuid4().hex[:12]}"
    await migrate(await make(name))
    return name


@asynccontextmanager
async def a_database(template: str = "template0") -> AsyncIterator[str]:
    """A database for as long as the context lasts; its URL."""
    name = f"jobyard_test_{uuid4().hex[:16]}"
    try:
        yield await make(name, template)
    finally:
        await drop(name)

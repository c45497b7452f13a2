"""Who reads hears in good time of a connection that does not come, or does not come back."""

from __future__ import annotations

import asyncio

import pytest

from service.errors import Unavailable
from service.ledger import database

#: Far longer than the bounds that the tests set.
PATIENCE_S = 30.0


async def test_a_connection_that_others_have_is_not_waited_for_without_an_end(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with asyncio.timeout(PATIENCE_S), database.pool(database_url, most=1) as pool:
        monkeypatch.setattr(database, "ANSWER_TIMEOUT_S", 0.05)
        async with pool.acquire():
            with pytest.raises(Unavailable), database.translated():
                await pool.fetchval("SELECT 1")
        assert await pool.fetchval("SELECT 1") == 1


async def test_a_connection_that_is_given_back_is_not_waited_for_without_an_end(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As over a link that was cut, of one whose question was given up."""
    held_up = asyncio.Event()

    async def never(_connection: object) -> None:
        if not held_up.is_set():
            held_up.set()
            await asyncio.Event().wait()

    monkeypatch.setattr(database, "_as_it_is", never)
    monkeypatch.setattr(database, "GIVE_BACK_S", 0.05)
    async with asyncio.timeout(PATIENCE_S), database.pool(database_url, most=1) as pool:
        with pytest.raises(Unavailable), database.translated():
            await pool.fetchval("SELECT 1")
        assert await pool.fetchval("SELECT 2") == 2

"""Transactions of ours that hold a lock while nobody is at their other end any more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import asyncpg
import structlog

from service.errors import Misconfigured
from service.ledger import database
from service.ledger.database import PASSING, close, translated
from sql import queries

_SQL = queries("stuck")
_log = structlog.get_logger()

_NOT_NOW: tuple[type[Exception], ...] = (Misconfigured, *PASSING)


async def end_stuck(owner: Callable[[], Awaitable[asyncpg.Connection]]) -> None:
    """End them, after a wait for a lock that was in vain. `owner` connects with the role that all of the
    service's connections are made with, which may end its own. What cannot be done now is tried again with
    the next wait."""
    try:
        connection = await owner()
        try:
            with translated():
                ended = await connection.fetch(_SQL.end_stuck, database.IDLE_IN_TRANSACTION_S)
        finally:
            await close(connection)
    except _NOT_NOW as error:
        _log.warning("stuck transactions not looked for", error=type(error).__name__)
        return
    for record in ended:
        _log.warning("stuck transaction ended", pid=record["pid"], ended=record["ended"])

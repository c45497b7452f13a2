"""As much of asyncpg's connection and pool as the ledger uses, over a database in memory."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

import asyncpg

from service.ledger.database import ANSWER_TIMEOUT_S
from tests.chaos.simulation.locks import RowLock
from tests.chaos.simulation.postgres import CHANNEL, Changes, Postgres, Record
from tests.chaos.simulation.process import Process
from tests.chaos.simulation.statements import STATEMENTS, Answer, Statements


class Connection(Statements):
    """One session. Errors have asyncpg's types; `tests/.../conformance` holds it to the real one."""

    def __init__(self, server: Postgres, process: Process, *, answer_s: float = ANSWER_TIMEOUT_S) -> None:
        self._server, self._process, self._answer_s = server, process, answer_s
        self._loop = asyncio.get_running_loop()
        self._closed = self._ended = self._aborted = self._autocommit = False
        self._changes: Changes | None = None
        self._locks: list[RowLock] = []
        self._idle_most_s = self._statement_most_s = math.inf
        self._idle_since = math.inf
        self._on_end: list[Callable[[Any], None]] = []

    # -- its life ---------------------------------------------------------------------------------------

    def is_closed(self) -> bool:
        return self._closed or self._is_ended()

    async def close(self, **_: Any) -> None:
        self.terminate()

    def terminate(self) -> None:
        self._closed = True
        self.end()

    def idle_until(self) -> float:
        return self._idle_since + self._idle_most_s if self._changes is not None else math.inf

    def end(self) -> None:
        """The server knows nothing of it any more."""
        self._ended = True
        self._rolled_back()
        self._server.listeners.pop(self, None)
        for told in self._on_end:
            told(self)
        self._on_end.clear()

    def _is_ended(self) -> bool:
        """Also by its own idleness, which nobody may have been waiting to see."""
        if self._changes is not None and self.idle_until() <= self._loop.time():
            self.end()
        return self._ended

    def _rolled_back(self) -> None:
        self._changes = None
        self._aborted = False
        for lock in self._locks:
            lock.give(self)
        self._locks.clear()

    # -- transactions -----------------------------------------------------------------------------------

    def transaction(self) -> Self:
        return self

    async def __aenter__(self) -> Self:
        self._check_open()
        self._begin()
        return self

    def _begin(self) -> None:
        self._changes, self._aborted = Changes(), False
        self._idle_since = self._loop.time()

    async def __aexit__(self, kind: Any, *_: object) -> None:
        if kind is None:
            if not self._changes:
                self._check_open()
                self._commit()
                return
            await self._process.gate("before commit")
            self._check_open()
            self._commit()
            await self._process.gate("after commit")
        elif kind is not GeneratorExit:
            self._check_open()
            self._rolled_back()

    def _check_open(self) -> None:
        if self.is_closed():
            self._closed = True
            raise asyncpg.InterfaceError("the underlying connection is closed")

    def _commit(self) -> None:
        server, changes = self._server, self._changes
        assert changes is not None
        fate = server.chance.random() / server.lost_rate if server.lost_rate else 1.0
        if fate < 1:
            self._closed = True
            server.lost += 1
            if changes and not self._aborted and fate < 1 / 3:
                server.apply(self._process, changes)
            elif changes and not self._aborted and fate < 2 / 3:
                server.finish(self._process, changes, self, list(self._locks))
            self.end()
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
        if changes and not self._aborted:
            server.apply(self._process, changes)
        self._rolled_back()

    # -- statements -------------------------------------------------------------------------------------

    async def fetch(self, statement: str, *args: Any) -> Answer:
        work, name = STATEMENTS[statement]
        if name:
            await self._process.gate(name)
        self._check_open()
        if self._aborted:
            raise asyncpg.InFailedSQLTransactionError("current transaction is aborted")
        alone = self._changes is None
        if alone:
            self._begin()
        changes = self._changes
        assert changes is not None
        self._idle_since = math.inf
        try:
            answer = await work(self, changes, args)
        except BaseException:
            self._aborted = True
            if alone:
                self._rolled_back()
            raise
        finally:
            self._idle_since = self._loop.time()
        if self._is_ended():
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
        if alone:
            if changes:
                self._commit()
            else:
                self._rolled_back()
        return answer

    async def fetchrow(self, statement: str, *args: Any) -> Record | None:
        found = await self.fetch(statement, *args)
        return found[0] if found else None

    async def fetchval(self, statement: str, *args: Any) -> Any:
        found = await self.fetch(statement, *args)
        return next(iter(found[0])) if found else None

    async def execute(self, statement: str, *args: Any) -> str:
        await self.fetch(statement, *args)
        return ""

    async def _locked(self, lock: RowLock) -> None:
        try:
            await lock.take(self, min(self._statement_most_s, self._answer_s))
        except TimeoutError:
            if self._statement_most_s < self._answer_s:
                raise asyncpg.QueryCanceledError("canceling statement due to statement timeout") from None
            raise
        if lock not in self._locks:
            self._locks.append(lock)

    # -- listening --------------------------------------------------------------------------------------

    async def add_listener(self, channel: str, heard: Callable[[Any, int, str, object], None]) -> None:
        assert channel == CHANNEL
        await self._process.gate("listen")
        self._check_open()
        self._server.listeners[self] = lambda payload: self._loop.call_soon(heard, self, 0, channel, payload)

    def add_termination_listener(self, told: Callable[[Any], None]) -> None:
        self._on_end.append(told)


class Pool:
    """A connection to whoever asks, each time a new one: nobody waits for another's."""

    def __init__(self, server: Postgres, process: Process) -> None:
        self._server, self._process = server, process

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        made = Connection(self._server, self._process)
        try:
            yield made
        finally:
            made.terminate()

    def _made(self) -> Connection:
        return Connection(self._server, self._process)

    async def fetch(self, statement: str, *args: Any) -> Answer:
        return await self._made().fetch(statement, *args)

    async def fetchrow(self, statement: str, *args: Any) -> Record | None:
        return await self._made().fetchrow(statement, *args)

    async def fetchval(self, statement: str, *args: Any) -> Any:
        return await self._made().fetchval(statement, *args)

    async def execute(self, statement: str, *args: Any) -> str:
        return await self._made().execute(statement, *args)

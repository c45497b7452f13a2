"""Two grounds for the same tests: Postgres itself, and the one in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple, Protocol

import asyncpg

from service.ledger import database
from service.ledger.ledger import Ledger
from service.ledger.writer import Writer
from service.vault import MasterKey
from sql import queries
from tests.chaos.simulation.connection import Connection
from tests.chaos.simulation.ledger import SimLedger
from tests.chaos.simulation.postgres import CHANNEL, Postgres
from tests.chaos.simulation.process import Process
from tests.support.proxy import proxied
from tests.support.working import working, writing

LEDGER = queries("ledger")
MASTER = MasterKey(b"m" * 32)
#: A session waits so long for what a test does not want to see end.
LONG_MS = 60_000


class State(NamedTuple):
    """All that a ledger is. Rows as Python has them, whichever way their JSON is written."""

    head: tuple[int, bytes]
    events: list[tuple[Any, ...]]
    commands: dict[Any, tuple[Any, ...]]
    folds: Mapping[tuple[str, str], Any]
    leases: dict[str, tuple[int, str]]


class Ground(Protocol):
    async def connect(self, *, idle_ms: int, statement_ms: int, answer_s: float) -> Any:
        """A session of its own, with these bounds."""

    async def state(self) -> State: ...

    async def waiting(self) -> int:
        """How many sessions wait for a lock."""

    def ledger(self) -> Any:
        """A process's access to it, as a context."""

    def writer(self) -> Any:
        """A writer over a line that `lose` cuts, as a context."""

    def lose(self, when: str) -> None:
        """The next commit's outcome: cut `before` it is done, or `after`."""


async def bounded(connection: Any, idle_ms: int, statement_ms: int) -> Any:
    await connection.execute(LEDGER.bound, str(idle_ms), str(statement_ms))
    return connection


@dataclass
class Real:
    """A throwaway database. `stack` closes what was opened."""

    url: str
    stack: AsyncExitStack
    proxy: Any = None
    _own: asyncpg.Connection | None = None

    async def _looking(self) -> asyncpg.Connection:
        """The session that looks at it, which takes no part."""
        if self._own is None:
            self._own = await database.connect(self.url, admin=True)
            self.stack.callback(self._own.terminate)
        return self._own

    async def connect(
        self, *, idle_ms: int = LONG_MS, statement_ms: int = LONG_MS, answer_s: float = 60
    ) -> asyncpg.Connection:
        made = await asyncpg.connect(
            self.url, command_timeout=answer_s, server_settings=database._settings(admin=False)
        )
        self.stack.callback(made.terminate)
        await bounded(made, idle_ms, statement_ms)
        return made

    async def state(self) -> State:
        connection = await self._looking()
        head: Any = await connection.fetchrow(LEDGER.head)
        events = await connection.fetch(LEDGER.read_after, 0, 2**62, 2**31)
        commands = await connection.fetch("SELECT * FROM commands")
        folds = await connection.fetch("SELECT fold, key, row FROM folds")
        leases = await connection.fetch("SELECT engine, epoch, holder FROM leases")
        return State(
            (head["position"], head["hash"]),
            [tuple(each.values()) for each in events],
            {each["id"]: tuple(each.values()) for each in commands},
            {(each["fold"], each["key"]): json.loads(each["row"]) for each in folds},
            {each["engine"]: (each["epoch"], each["holder"]) for each in leases},
        )

    async def waiting(self) -> int:
        connection = await self._looking()
        found: int = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return found

    @asynccontextmanager
    async def ledger(self) -> AsyncIterator[Ledger]:
        async with Ledger.open(self.url, MASTER, readers=2) as opened:
            yield opened

    @asynccontextmanager
    async def writer(self) -> AsyncIterator[Writer]:
        async with proxied(self.url) as self.proxy, writing(self.proxy.url) as made:
            yield made

    def lose(self, when: str) -> None:
        setattr(self.proxy, f"{when}_commit", 1)


class Prompt(Process):
    """It neither crashes nor takes its time."""

    async def gate(self, about: str) -> None:
        await asyncio.sleep(0)


class _Fate(Random):
    """Decides the next commit, and then no more."""

    server: Postgres

    def random(self) -> float:
        if not self.fates:
            return 1.0
        return self.fates.pop()

    def __init__(self) -> None:
        super().__init__(1)
        self.fates: list[float] = []


class Fake:
    """The one in memory."""

    #: By what is lost: before it is done, after it, and before it but done in the end.
    _FATES = {"before": 0.9, "after": 0.1, "late": 0.5}  # noqa: RUF012

    def __init__(self) -> None:
        self._fate = _Fate()
        self.server = Postgres(self._fate)
        self.server.lost_rate = 1.0
        self.process = Prompt("fake", Random(1), lambda _: None)

    async def connect(
        self, *, idle_ms: int = LONG_MS, statement_ms: int = LONG_MS, answer_s: float = 60
    ) -> Any:
        made = Connection(self.server, self.process, answer_s=answer_s)
        return await bounded(made, idle_ms, statement_ms)

    async def state(self) -> State:
        server = self.server
        return State(
            (server.position, server.hash),
            [tuple(each.values()) for each in server.events],
            {key: tuple(each.values()) for key, each in server.commands.items()},
            {key: json.loads(row) for key, row in server.folds.items()},
            {engine: (each["epoch"], each["holder"]) for engine, each in server.leases.items()},
        )

    async def waiting(self) -> int:
        server = self.server
        locks = (server.head_lock, *server.lease_locks.values(), *server.key_locks.values())
        return sum(len(lock._waiting) for lock in locks)

    @asynccontextmanager
    async def ledger(self) -> AsyncIterator[SimLedger]:
        made = SimLedger(self.server, self.process)
        async with working(made.listener), working(made.writer):
            yield made

    @asynccontextmanager
    async def writer(self) -> AsyncIterator[Writer]:
        made = SimLedger(self.server, self.process)
        async with working(made.writer) as writer:
            yield writer

    def lose(self, when: str) -> None:
        self._fate.fates.append(self._FATES[when])


__all__ = ["CHANNEL", "LEDGER", "Fake", "Ground", "Real", "State"]

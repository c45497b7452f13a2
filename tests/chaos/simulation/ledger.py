"""The product's own ledger over a database in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from service.domain.commands import Command
from service.domain.events import Event
from service.ledger.commit import Receipt
from service.ledger.follow import Had, Listener, follow, follow_on
from service.ledger.keys import Keys
from service.ledger.leases import Database, Lease
from service.ledger.ledger import Ledger
from service.ledger.read import Portion
from service.ledger.writer import Writer
from service.vault import MasterKey, Secret
from tests.chaos.simulation.connection import Connection, Pool
from tests.chaos.simulation.postgres import Postgres
from tests.chaos.simulation.process import Process

_MASTER = MasterKey(b"m" * 32)
#: A hint that is lost is made up for after so long; a listener that is cut off finds out after the other.
POLL_S, PING_S = 5.0, 30.0


class SimLedger(Ledger):
    """One process's access. Its ids come from the seed, and what was sealed is anything."""

    def __init__(self, server: Postgres, process: Process) -> None:
        async def connect() -> Any:
            await process.gate("connect")
            return Connection(server, process)

        self.writer = Writer(connect, on_append=lambda _: self.listener.hint())
        pool: Any = Pool(server, process)
        super().__init__(pool, self.writer, Listener(connect, ping_s=PING_S), Keys(pool, _MASTER), connect)
        self._process, self._server = process, server

    async def submit(self, command: Command, *, command_id: UUID | None = None, **how: Any) -> Receipt:
        made = command_id or UUID(int=self._process.chance.getrandbits(128))
        return await super().submit(command, command_id=made, **how)

    def follow(
        self, after: int, *, job: UUID | None = None, project: str | None = None
    ) -> AsyncIterator[list[Event]]:
        return follow(self.pool, self.listener, after, job=job, project=project, poll_s=POLL_S)

    def follow_on(self, had: Had) -> AsyncIterator[Portion]:
        return follow_on(self.pool, self.listener, had, poll_s=POLL_S)

    async def which_database(self) -> Database:
        return Database("the only one")

    async def take_lease(self, engine: str, holder: str, ttl_s: float, **how: Any) -> Lease | None:
        lease = await super().take_lease(engine, holder, ttl_s, **how)
        if lease is not None:
            self._process.epoch = lease.epoch
            self._server.on_lease(self._process)
        return lease

    async def open_secret(self, sealed: Any) -> Secret:
        await self._process.gate("open secret")
        return Secret("a-secret-of-16-characters")

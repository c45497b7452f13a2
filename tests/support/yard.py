"""A project on a real ledger, with prices, a quota, and jobs in any state."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from service.domain import commands as cmd
from service.domain.states import State
from service.ledger import leases
from service.ledger.commit import Receipt
from service.ledger.ledger import Ledger
from tests.support import jobs
from tests.support.jobs import ENGINE, NODE, PRICES, PROJECT


@dataclass
class Yard:
    ledger: Ledger
    epoch: int = 0

    async def open(self, *, cpu: int = 100, gpu: int = 10) -> None:
        """Set the prices, make the project, and take the lease of the engine."""
        await self.do(cmd.SetPrices(prices=PRICES, currency="EUR"))
        await self.do(cmd.CreateProject(project=PROJECT, name="Vision", cpu=cpu, gpu=gpu))
        async with self.ledger.pool.acquire() as connection:
            lease = await leases.take(connection, ENGINE, "host/yard", 600)
        assert lease is not None
        self.epoch = lease.epoch

    async def do(self, command: cmd.Command, **details: Any) -> Receipt:
        return await self.ledger.submit(command, actor="test", **details)

    async def submit(self, **spec: Any) -> UUID:
        """A new QUEUED job; its id."""
        job = uuid4()
        await self.do(jobs.submit(job, **spec))
        return job

    def of(self, job: UUID, run: int = 1) -> dict[str, Any]:
        return jobs.of_run(job, run, PROJECT, self.epoch)

    async def run(self, job: UUID, *, upto: State = State.DONE, run: int = 1) -> datetime:
        """Take a QUEUED job on its ordinary way as far as `upto`; the database's time at the end."""
        now = await self.ledger.now()
        of = self.of(job, run)
        steps = {
            State.INITIALIZING: cmd.PlaceRun(**of, node=NODE),
            State.PENDING: jobs.prepared(**of),
            State.RUNNING: jobs.started(now, **of),
            State.FINALIZING: jobs.exited(now, **of),
            State.DONE: jobs.finalize(**of),
        }
        for state, command in steps.items():
            await self.do(command)
            if state is upto:
                break
        return now

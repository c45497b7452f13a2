"""What the supervisor needs of the ledger. `service.ledger.Ledger` is it; a simulation may be another."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol
from uuid import UUID

from service.domain.commands import Command
from service.domain.directory import Project
from service.domain.job import Job
from service.domain.spec import Sealed
from service.ledger.commit import Receipt
from service.ledger.follow import Had
from service.ledger.leases import Database, Held, Lease
from service.ledger.ledger import Clock
from service.ledger.read import Head, Mark, Portion


class SupervisorLedger(Protocol):
    async def submit(self, command: Command, *, actor: str) -> Receipt: ...

    async def head(self) -> Head: ...

    async def clock(self) -> Clock: ...

    async def job_seen(self, job: UUID) -> tuple[Job, Mark]: ...

    async def find_job(self, job: UUID) -> Job | None: ...

    async def live_jobs(self) -> list[Job]: ...

    async def project(self, project: str) -> Project | None: ...

    async def open_secret(self, sealed: Sealed) -> str: ...

    def follow_on(self, had: Had) -> AsyncIterator[Portion]: ...

    async def which_database(self) -> Database: ...

    async def take_lease(self, engine: str, holder: str, ttl_s: float, *, locked: bool) -> Lease | None: ...

    async def renew_lease(self, lease: Lease, ttl_s: float, *, seen: bool = True) -> bool: ...

    async def release_lease(self, lease: Lease) -> None: ...

    async def leases(self) -> list[Held]: ...

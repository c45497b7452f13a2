"""A ledger with a project, jobs in it, webhooks of it, and a deliverer that a test may run and kill."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any
from uuid import UUID, uuid4

from projections.catalogue import FOLDS
from service.domain import commands as cmd
from service.domain.events import Event
from service.domain.webhooks import Wanted, Webhook, read_webhook_url
from service.ledger.ledger import Ledger
from service.webhooks.backoff import Backoff
from service.webhooks.deliverer import Deliverer
from service.webhooks.send import Sender
from service.webhooks.signing import new_secret
from sql import queries
from tests.support import jobs
from tests.support.jobs import PROJECT
from tests.support.waiting import until

SQL = queries("webhooks")
LOOPBACK = (ip_network("127.0.0.0/8"),)
#: Tries again at once, and as often as it takes.
AT_ONCE = Backoff(table=(0.0,) * 10_000, draw=lambda: 0.0)


def sender(**changed: Any) -> Sender:
    return Sender(LOOPBACK, **changed)


@dataclass
class House:
    """`made` counts what the test asked for; ids of jobs are theirs to choose."""

    ledger: Ledger
    secrets: dict[str, str] = field(default_factory=dict)

    async def do(self, command: cmd.Command) -> list[Event]:
        return list((await self.ledger.submit(command, actor="test")).events)

    async def hook(self, url: str, *, after: int | None = 0, project: str = PROJECT, **wanted: Any) -> str:
        """A new webhook, from the ledger's beginning unless told otherwise; its id."""
        hook_id, secret = str(uuid4()), new_secret()
        sealing = await self.ledger.keys.of(project)
        read = read_webhook_url("url", url, http=True)
        await self.do(
            cmd.SetWebhook(
                project=project,
                webhook_id=hook_id,
                place=read.place,
                url=sealing.seal(read.text),
                secret=sealing.seal(secret),
                wanted=Wanted(**wanted),
                after=after,
            )
        )
        self.secrets[hook_id] = secret
        return hook_id

    async def state(self, hook_id: str, project: str = PROJECT) -> Webhook:
        row = await self.ledger.pool.fetchval(SQL.of_project, project)
        found: Webhook = FOLDS["webhooks"].decoder.decode(row).hooks[hook_id]
        return found

    async def until_paused(self, hook_id: str, project: str = PROJECT) -> Webhook:
        async def paused() -> bool:
            return (await self.state(hook_id, project)).paused is not None

        await until(paused)
        return await self.state(hook_id, project)

    async def until_remembered(self, attempts: int) -> None:
        """Until so many attempts have been written down."""

        async def remembered() -> bool:
            count: int = await self.ledger.pool.fetchval("SELECT count(*) FROM webhook_attempts")
            return count >= attempts

        await until(remembered)

    async def job(self, **spec: Any) -> UUID:
        job = uuid4()
        await self.do(jobs.submit(job, **spec))
        return job

    async def label(self, job: UUID, value: str, name: str = "n") -> int:
        """One event of a job; its position."""
        (event,) = await self.do(jobs.label(name, value, job=job))
        return event.position

    async def quota(self, cpu: int) -> int:
        """One event of no job; its position."""
        (event,) = await self.do(cmd.SetQuota(project=PROJECT, cpu=cpu))
        return event.position

    @asynccontextmanager
    async def delivering(self, **changed: Any) -> AsyncIterator[Deliverer]:
        """A deliverer that has the duty, for as long as the context lasts."""
        fields: dict[str, Any] = {"backoff": AT_ONCE, "poll_s": 0.05, "ask_s": 0.02} | changed
        deliverer = Deliverer(self.ledger, fields.pop("sender", None) or sender(), **fields)
        task = asyncio.create_task(deliverer.run())
        try:
            await deliverer.on_duty.wait()
            yield deliverer
        finally:
            task.cancel()
            await asyncio.wait([task])


async def a_house(ledger: Ledger) -> House:
    house = House(ledger)
    await house.do(cmd.SetPrices(prices=jobs.PRICES, currency="EUR"))
    await house.do(cmd.CreateProject(project=PROJECT, name="Vision", cpu=10_000, gpu=10))
    return house

"""A ledger for a benchmark, in a database of its own on the test server."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import asyncpg

from service.domain import commands as cmd
from service.domain.asked import JobSpecAsked, ResourcesAsked
from service.domain.flavors import DEFAULT_CATALOGUE
from service.domain.reading import read_spec
from service.domain.spec import JobSpec, Sealed
from service.ledger.ledger import Ledger
from service.ledger.migrate import migrate
from service.vault import MasterKey, new_key

PROJECT = "default"


@asynccontextmanager
async def database() -> AsyncIterator[str]:
    """A fresh, migrated database; its URL."""
    server = os.environ["JOBYARD_TEST_DATABASE_URL"]
    name = f"bench_{uuid4().hex[:12]}"
    admin = await asyncpg.connect(server)
    await admin.execute(f'CREATE DATABASE "{name}"')
    url = server.replace("/jobyard?", f"/{name}?").replace("/postgres?", f"/{name}?")
    try:
        await migrate(url)
        yield url
    finally:
        await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        await admin.close()


@asynccontextmanager
async def ledger(url: str) -> AsyncIterator[Ledger]:
    """A ledger with the project `default`, a quota that never binds, and prices."""
    async with Ledger.open(url, MasterKey(new_key())) as opened:
        await opened.submit(
            cmd.CreateProject(project=PROJECT, name=PROJECT, cpu=1_000_000, gpu=1_000_000), actor="bench"
        )
        prices = {flavor.id: flavor.hourly_price for flavor in DEFAULT_CATALOGUE.flavors}
        await opened.submit(cmd.SetPrices(prices=prices, currency="EUR"), actor="bench")
        yield opened


class Specifications(dict[UUID, JobSpec]):
    """What jobs are submitted with, made before the clock runs."""

    def prepare(self, jobs: Iterable[UUID]) -> None:
        for job in jobs:
            self[job] = specification(job)


def specification(job: UUID) -> JobSpec:
    asked = JobSpecAsked(image="busybox", resources=ResourcesAsked(cpu=1), command=["true"])
    return read_spec(asked, job_id=str(job), catalogue=DEFAULT_CATALOGUE, seal=no_secrets)


def no_secrets(_text: str) -> Sealed:
    raise AssertionError("the benchmark's jobs hold no secrets")

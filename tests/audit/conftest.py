"""A ledger of some hundred events with checkpoints of several sizes beside it, whole again for each test."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from service.audit.evidence import Evidence
from service.audit.log import Log
from service.audit.places import Directory
from service.audit.signer import Signer
from service.config import Settings
from service.domain import commands as cmd
from service.domain.checkpoint import PublicKey, origin_of
from service.ledger.ledger import Ledger
from service.ledger.verify import Verified, verify
from service.vault import MasterKey, SigningKey
from tests.ledger.tampering import keep, put_back_afterwards
from tests.support import databases
from tests.support.jobs import PROJECT
from tests.support.yard import Yard

MASTER = MasterKey(b"m" * 32)
SIGNING = SigningKey(b"s" * 32)
#: Checkpoints are signed at these sizes; some events come after the last.
SIZES = (9, 300, 520, 600)
LAST = 610


@dataclass(frozen=True)
class Signed:
    """A database and a folder, and whose key is in the checkpoints of it."""

    url: str
    ledger_id: UUID
    folder: Path
    key: PublicKey

    def log(self, folder: Path | None = None) -> Log:
        return Log.of(Directory(folder or self.folder), self.ledger_id)


def signer(ledger: Ledger, folder: Path, **changes: Any) -> Signer:
    return Signer(ledger, Directory(folder), SIGNING, Settings(**changes))


async def grown(yard: Yard, upto: int) -> None:
    """More events, of no job, until there are so many."""
    while (missing := upto - (await yard.ledger.head()).position) > 0:
        quotas = [cmd.SetQuota(project=PROJECT, cpu=101 + n % 2, gpu=None) for n in range(missing)]
        await asyncio.gather(*map(yard.do, quotas))


@pytest.fixture(scope="session")
def made(template_database: str) -> Iterator[Signed]:
    name = f"{template_database}_signed"
    folder = Path(tempfile.mkdtemp(prefix="jobyard-checkpoints-"))
    yield asyncio.run(_made(asyncio.run(databases.make(name, template_database)), folder))
    asyncio.run(databases.drop(name))
    shutil.rmtree(folder)


async def _made(url: str, folder: Path) -> Signed:
    async with Ledger.open(url, MASTER) as ledger:
        yard = Yard(ledger)
        await yard.open()
        await yard.run(await yard.submit())
        await yard.submit()
        signing = signer(ledger, folder)
        for size in SIZES:
            await grown(yard, size)
            assert (await signing.run_once(now=True)) is not None
        await grown(yard, LAST)
        ledger_id = (await ledger.head()).ledger_id
    await keep(url)
    return Signed(url, ledger_id, folder, PublicKey(origin_of(ledger_id), SIGNING.public))


@pytest.fixture
async def admin(made: Signed) -> AsyncIterator[asyncpg.Connection]:
    """The events, whole; whatever a test does to them is undone."""
    async with put_back_afterwards(made.url) as connection:
        yield connection


@pytest.fixture
def signed(made: Signed, tmp_path: Path) -> Signed:
    """The same with a folder that a test may do anything to."""
    shutil.copytree(made.folder, tmp_path / "checkpoints")
    return Signed(made.url, made.ledger_id, tmp_path / "checkpoints", made.key)


async def against(
    connection: asyncpg.Connection, signed: Signed, known: int = 0
) -> tuple[Verified, Evidence]:
    """Verify a database by what lies in the folder."""
    evidence = await Evidence.gathered(signed.log(), signed.key, known)
    return await verify(connection, evidence), evidence

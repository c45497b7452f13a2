"""A failover to a standby that was behind: what a process remembers of the lost future decides nothing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest

from service.domain import commands as cmd
from service.domain.commands import Submission
from service.errors import QuotaExceeded
from service.ledger import asof, database, read, rebuild, verify
from service.ledger.fresh import FreshJobs
from service.ledger.job_rows import JobRows
from service.ledger.ledger import Ledger
from service.ledger.writer import Writer
from service.vault import MasterKey
from tests.support import databases, jobs
from tests.support.jobs import PROJECT
from tests.support.working import working
from tests.support.yard import Yard

MASTER = MasterKey(b"m" * 32)


class Primary:
    """Which of two databases, alike so far, is the one that a process reaches; its pool, too."""

    def __init__(self, url: str, standby: str, job: UUID) -> None:
        self.url = url
        self.standby = standby
        self.job = job

    def fail_over(self) -> None:
        self.url = self.standby

    async def connect(self) -> Any:
        return await database.connect(self.url)

    async def fetch(self, *arguments: Any) -> Any:
        return await self._asked("fetch", arguments)

    async def fetchrow(self, *arguments: Any) -> Any:
        return await self._asked("fetchrow", arguments)

    async def _asked(self, how: str, arguments: tuple[Any, ...]) -> Any:
        connection = await self.connect()
        try:
            return await getattr(connection, how)(*arguments)
        finally:
            await connection.close()


@pytest.fixture
async def primary(database_url: str) -> AsyncIterator[Primary]:
    """With a project whose quota is 2 processors, and one job in it, in both."""
    async with Ledger.open(database_url, MASTER) as ledger:
        yard = Yard(ledger)
        await yard.open(cpu=2)
        job = await yard.submit()
    async with databases.a_database(urlsplit(database_url).path.lstrip("/")) as standby:
        yield Primary(database_url, standby, job)


async def elsewhere(url: str, *commands: cmd.Command) -> None:
    """What other processes do, one command after the other."""
    async with Ledger.open(url, MASTER) as ledger:
        for command in commands:
            await ledger.submit(command, actor="other")


def quota(cpu: int) -> cmd.SetQuota:
    return cmd.SetQuota(project=PROJECT, cpu=cpu, gpu=0)


def labelled(job: UUID, value: str) -> cmd.SetLabel:
    return cmd.SetLabel(project=PROJECT, job=job, name="n", value=value)


def submission(command: cmd.Command) -> Submission:
    return Submission(id=uuid4(), command=command, actor="test")


async def test_a_writer_decides_on_no_row_of_a_future_that_was_lost(primary: Primary) -> None:
    """Though the head is where it was: others have written as much as was lost."""
    async with working(Writer(primary.connect)) as writer:
        await writer.submit(submission(quota(100)))
        primary.fail_over()
        await elsewhere(primary.standby, quota(1))
        assert writer._connection is not None
        writer._connection.terminate()
        with pytest.raises(QuotaExceeded):
            await writer.submit(submission(jobs.submit(uuid4())))
        await writer.submit(submission(labelled(primary.job, "x")))
    connection = await database.connect(primary.standby, admin=True)
    try:
        for each in await rebuild.verify(connection, [], lambda _text: None):
            assert each.differences == (), each.fold
        await verify.verify(connection)
    finally:
        await connection.close()


async def test_what_is_read_on_follows_what_was_read_before_or_is_said_to_be_lost(primary: Primary) -> None:
    shared, _ = await read.still(primary, read.BEGINNING)
    await elsewhere(primary.url, quota(100))
    found = await read.portion(primary, shared)
    assert found is not None
    assert [event.position for event in found.events] == [shared.position + 1] == [found.end.position]
    assert await read.portion(primary, found.end) == ([], found.end)
    primary.fail_over()
    assert await read.portion(primary, found.end) is None
    for count in (1, 2):
        await elsewhere(primary.standby, quota(count))
        assert await read.portion(primary, found.end) is None, "others came instead"
        again = await read.portion(primary, shared)
        assert again is not None
        assert len(again.events) == count


async def test_no_past_is_answered_that_was_lost(primary: Primary) -> None:
    """What was does not change, but after a failover it was something else."""
    folded = asof.Folded()

    async def labels(url: str, position: int) -> Any:
        async with database.pool(url, most=1) as pool, folded.snapshot(pool) as connection:
            (text,) = await folded.texts(connection, "status", [str(primary.job)], position)
        return json.loads(text)["spec"].get("labels", {})

    async with Ledger.open(primary.url, MASTER) as ledger:
        lost = await ledger.submit(labelled(primary.job, "lost"), actor="other")
    assert await labels(primary.url, lost.position) == {"n": "lost"}
    await elsewhere(primary.standby, quota(1))
    assert await labels(primary.standby, lost.position) == {}


@pytest.mark.parametrize("beyond", [0, 1])
async def test_no_job_is_answered_from_a_future_that_was_lost(primary: Primary, beyond: int) -> None:
    """Whether others have written as much as was lost, or more."""
    pool: Any = primary
    fresh = FreshJobs(pool, JobRows())
    await elsewhere(primary.url, labelled(primary.job, "lost"))
    for _ in range(2):
        found = await fresh.of(primary.job)
        assert found is not None
        assert found[0].spec.labels == {"n": "lost"}
    primary.fail_over()
    await elsewhere(primary.standby, *map(quota, range(1, 2 + beyond)))
    found = await fresh.of(primary.job)
    assert found is not None
    assert found[0].spec.labels == {}

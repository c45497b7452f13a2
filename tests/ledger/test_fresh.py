"""Jobs that are kept in memory are answered as a query would, whoever wrote, and take bounded memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from service.domain import commands as cmd
from service.domain.job import Job
from service.ledger import database, fresh, rebuild
from service.ledger.fresh import FreshJobs
from service.ledger.job_rows import JobRows
from service.ledger.kept import Kept
from service.ledger.ledger import Ledger
from service.vault import MasterKey
from tests.support.jobs import PROJECT
from tests.support.waiting import until
from tests.support.yard import Yard

MASTER = MasterKey(b"m" * 32)


@pytest.fixture
async def elsewhere(database_url: str, yard: Yard) -> AsyncIterator[Yard]:
    """What another process does."""
    async with Ledger.open(database_url, MASTER, readers=3) as opened:
        yield Yard(opened, yard.epoch)


def labelled(job: UUID, value: object) -> cmd.SetLabel:
    return cmd.SetLabel(project=PROJECT, job=job, name="n", value=str(value))


async def read(jobs: FreshJobs | Ledger, job: UUID) -> Job:
    found = await (jobs.of(job) if isinstance(jobs, FreshJobs) else jobs.job_now(job))
    assert found is not None
    return found[0]


async def test_what_is_kept_is_answered_again_until_anybody_changes_it(yard: Yard, elsewhere: Yard) -> None:
    one, other = await yard.submit(), await yard.submit()
    for round_ in range(5):
        first = await read(yard.ledger, one)
        assert await read(yard.ledger, one) is first, "nothing has happened to it"
        await elsewhere.do(labelled(other, round_))
        assert await read(yard.ledger, one) is first, "nothing has happened to this one"
        await elsewhere.do(labelled(one, round_))
        assert (await read(yard.ledger, one)).spec.labels["n"] == str(round_)


async def test_whoever_was_answered_reads_what_he_wrote_in_any_process(yard: Yard, elsewhere: Yard) -> None:
    """Many at once: looks are shared, rows come while others write, and nobody is told what was before."""
    mine = [await yard.submit() for _ in range(8)]

    async def write_and_read(job: UUID) -> None:
        for value in range(25):
            writer, reader = (elsewhere, yard) if value % 2 else (yard, elsewhere)
            await writer.do(labelled(job, value))
            assert (await read(reader.ledger, job)).spec.labels["n"] == str(value)
            assert (await read(writer.ledger, job)).spec.labels["n"] == str(value)

    await asyncio.gather(*map(write_and_read, mine))


class _Held:
    """A pool whose answers about rows wait on their way, once `gate` is closed."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = 0
        self.rows_read = 0

    async def fetch(self, *arguments: Any) -> Any:
        found = await self._pool.fetch(*arguments)
        self.rows_read += len(found)
        self.waiting += 1
        await self.gate.wait()
        self.waiting -= 1
        return found

    async def fetchrow(self, *arguments: Any) -> Any:
        return await self._pool.fetchrow(*arguments)


async def test_a_row_that_was_overtaken_by_a_look_is_not_kept(yard: Yard) -> None:
    pool: Any = _Held(yard.ledger.pool)
    jobs = FreshJobs(pool, JobRows())
    slow, other = await yard.submit(), await yard.submit()
    await read(jobs, other)
    pool.gate.clear()
    late = asyncio.create_task(read(jobs, slow))
    await until(lambda: pool.waiting == 1)
    await yard.do(labelled(slow, "new"))
    await read(jobs, other)  # a look, which goes beyond what has just happened
    pool.gate.set()
    await late
    assert (await read(jobs, slow)).spec.labels == {"n": "new"}


async def test_after_too_many_events_to_tell_all_is_read_again(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fresh, "MOST_EVENTS", 2)
    one, other = await yard.submit(), await yard.submit()
    pool: Any = _Held(yard.ledger.pool)
    jobs = FreshJobs(pool, JobRows())
    before = await read(jobs, other)
    await read(jobs, one)
    for value in range(3):
        await yard.do(labelled(one, value))
    assert (await read(jobs, one)).spec.labels == {"n": "2"}
    assert pool.rows_read == 3
    assert await read(jobs, other) == before
    assert pool.rows_read == 4, "it was read again"
    assert await read(jobs, other) == before
    assert pool.rows_read == 4, "and is kept again"


async def test_rows_of_another_ledger_prove_nothing(yard: Yard, database_url: str) -> None:
    """A rebuild, or a restored backup, changes rows without an event."""
    job = await yard.submit()
    admin = await database.connect(database_url, admin=True)
    try:
        tampered = "UPDATE folds SET row = row || '{\"user\": \"eve\"}' WHERE fold = 'status'"
        await admin.execute(tampered)
        assert (await read(yard.ledger, job)).user == "eve"
        await rebuild.rebuild(admin, ["status"], lambda _text: None)
        assert (await read(yard.ledger, job)).user == "ada"
        await admin.execute(tampered)
        await admin.execute("UPDATE ledger_head SET epoch = epoch + 1")
        assert (await read(yard.ledger, job)).user == "eve"
    finally:
        await admin.close()


async def test_as_many_are_kept_as_there_is_room_for(yard: Yard) -> None:
    many = [await yard.submit() for _ in range(6)]
    probe = FreshJobs(yard.ledger.pool, JobRows())
    await read(probe, many[0])
    jobs = FreshJobs(yard.ledger.pool, JobRows(), most_bytes=3 * probe.kept.size_bytes + 100)
    for job in many:
        await read(jobs, job)
        await read(jobs, many[0])
    assert len(jobs.kept) == 3
    assert jobs.kept.get(str(many[0])) is not None, "it was asked for again and again"
    assert jobs.kept.get(str(many[1])) is None


def test_what_was_not_asked_for_longest_goes_first_and_what_is_too_large_never_comes() -> None:
    kept = Kept[str](10)
    for key in "abc":
        kept.put(key, key, 3)
    assert kept.get("a") == "a"
    kept.put("d", "d", 4)
    assert (kept.get("b"), kept.get("a"), kept.get("d")) == (None, "a", "d")
    kept.put("a", "larger", 5)
    assert (kept.size_bytes, len(kept)) == (9, 2)
    kept.put("d", "too large", 11)
    assert kept.get("d") is None, "the one before is not there either"
    kept.drop("a")
    assert (kept.size_bytes, len(kept)) == (0, 0)

"""Connections that are lost at the worst moments: every command is answered right, once, and never twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from service.domain import commands as cmd
from service.domain import events as ev
from service.errors import QuotaExceeded, Unavailable
from service.ledger import commit as committing
from service.ledger import database, follow, verify
from service.ledger import writer as writer_module
from service.ledger.commit import Receipt
from service.ledger.follow import Listener
from service.ledger.ledger import Ledger
from service.ledger.writer import Writer
from service.vault import MasterKey
from tests.support import jobs
from tests.support.jobs import PROJECT
from tests.support.proxy import Proxy, proxied
from tests.support.waiting import until
from tests.support.working import listening, working, writing
from tests.support.yard import Yard

MASTER = MasterKey(b"m" * 32)


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[Proxy]:
    async with proxied(database_url) as made:
        yield made


def submission(command: cmd.Command) -> cmd.Submission:
    return cmd.Submission(id=uuid4(), command=command, actor="test")


async def commands_in(yard: Yard, name: object) -> int:
    count: int = await yard.ledger.pool.fetchval("SELECT count(*) FROM commands WHERE id = $1", name)
    return count


@pytest.mark.parametrize("when", ["before_commit", "after_commit"])
async def test_a_commit_of_unknown_outcome(yard: Yard, proxy: Proxy, when: str, database_url: str) -> None:
    """Cut before COMMIT is sent, or after it was done and before its answer: both look the same to us."""
    async with writing(proxy.url) as writer:
        await writer.submit(submission(cmd.SetQuota(project=PROJECT, cpu=2, gpu=0)))
        before = (await yard.ledger.head()).position
        for _ in range(3):
            setattr(proxy, when, 1)
            wanted = submission(cmd.SetQuota(project=PROJECT, cpu=3, gpu=0))
            receipt = await writer.submit(wanted)
            assert [event.body for event in receipt.events] == [ev.QuotaSet(cpu=3, gpu=0)]
            assert receipt.repeated == (when == "after_commit"), "it was found again, not done again"
            assert await commands_in(yard, wanted.id) == 1
    assert proxy.struck == 3
    assert (await yard.ledger.head()).position == before + 3
    await _holds(database_url)


@pytest.mark.parametrize("when", ["before_commit", "after_commit"])
async def test_a_batch_of_unknown_outcome(yard: Yard, proxy: Proxy, when: str, database_url: str) -> None:
    """What was refused is decided again, on what the others left; nothing is over its quota."""
    async with writing(proxy.url) as writer:
        # It remembers rows from here on, and must not remember what was lost.
        await writer.submit(submission(cmd.SetQuota(project=PROJECT, cpu=3, gpu=0)))
        setattr(proxy, when, 2)
        wanted = [submission(jobs.submit(uuid4())) for _ in range(10)]
        answers = await asyncio.gather(*map(writer.submit, wanted), return_exceptions=True)
    kinds = [type(answer) for answer in answers]
    assert (kinds.count(Receipt), kinds.count(QuotaExceeded)) == (3, 7)
    for each, answer in zip(wanted, answers, strict=True):
        assert await commands_in(yard, each.id) == isinstance(answer, Receipt)
    assert (await yard.ledger.quota(PROJECT)).cpu_used == 3
    assert proxy.struck == 2
    await _holds(database_url)


async def test_connections_cut_at_any_moment(yard: Yard, proxy: Proxy, database_url: str) -> None:
    async with writing(proxy.url) as writer:
        wanted = [submission(cmd.SetQuota(project=PROJECT, cpu=n, gpu=0)) for n in range(120)]
        tasks: list[asyncio.Task[Receipt]] = []
        for number, each in enumerate(wanted):
            tasks.append(asyncio.create_task(writer.submit(each)))
            if number % 10 == 9:
                proxy.cut_all()
                await asyncio.wait(tasks[-1:])
        receipts = await asyncio.gather(*tasks)
    assert [len(receipt.events) for receipt in receipts] == [1] * 120
    positions = {receipt.events[0].position for receipt in receipts}
    assert len(positions) == 120
    for each, receipt in zip(wanted, receipts, strict=True):
        assert receipt.events[0].command_id == each.id
        assert await commands_in(yard, each.id) == 1
    await _holds(database_url)


async def test_a_server_that_stays_away_is_said_and_the_command_may_be_repeated(
    yard: Yard, proxy: Proxy
) -> None:
    async with writing(proxy.url, patience_s=0.3) as writer:
        await writer.submit(submission(cmd.SetQuota(project=PROJECT, cpu=1, gpu=0)))
        proxy.accepting = False
        proxy.after_commit = 1
        wanted = submission(cmd.SetQuota(project=PROJECT, cpu=2, gpu=0))
        with pytest.raises(Unavailable, match="the outcome is unknown"):
            await writer.submit(wanted)
        proxy.accepting = True
        assert (await writer.submit(wanted)).repeated
        assert await commands_in(yard, wanted.id) == 1


class _Sick:
    """A connection whose ping, or whose end, fails in a way that is no loss of it."""

    def __init__(self, connection: asyncpg.Connection, error: Exception, where: str) -> None:
        self._connection = connection
        self._error = error
        self._where = where

    def __getattr__(self, name: str) -> Any:
        return self._fail if name == self._where else getattr(self._connection, name)

    async def _fail(self, *_arguments: Any) -> None:
        raise self._error


@pytest.mark.parametrize("error", [asyncpg.OutOfMemoryError("x"), asyncpg.InternalServerError("x")])
@pytest.mark.parametrize("where", ["fetchval", "close"])
async def test_a_writer_outlives_what_is_wrong_with_its_connection(
    yard: Yard, database_url: str, monkeypatch: pytest.MonkeyPatch, error: Exception, where: str
) -> None:
    """Nobody would begin it again, and every write would be told that the ledger is closing."""
    made: list[asyncpg.Connection] = []

    async def connect() -> Any:
        made.append(await database.connect(database_url))
        return _Sick(made[-1], error, where) if len(made) == 1 else made[-1]

    monkeypatch.setattr(writer_module, "PING_S", 0.01)
    async with working(Writer(connect)) as writer:
        await writer.submit(submission(cmd.SetQuota(project=PROJECT, cpu=2, gpu=0)))
        if where == "close":
            with monkeypatch.context() as patch:
                patch.setattr(committing, "command_records", _a_bug)
                with pytest.raises(ValueError, match="a bug"):
                    await asyncio.wait_for(
                        writer.submit(submission(cmd.SetQuota(project=PROJECT, cpu=3, gpu=0))), 10
                    )
        await until(made[0].is_closed)
        await writer.submit(submission(cmd.SetQuota(project=PROJECT, cpu=4, gpu=0)))
    await _holds(database_url)


def _a_bug(_done: object) -> list[Any]:
    raise ValueError("a bug")


async def test_a_server_that_takes_no_writes_is_not_there_for_them(yard: Yard, database_url: str) -> None:
    """One that another took the place of, and that answers still."""
    owner = await database.connect(database_url, admin=True)
    name = await owner.fetchval("SELECT quote_ident(current_database())")
    try:
        await owner.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        async with writing(database_url, patience_s=0.3) as writer:
            wanted = submission(cmd.SetQuota(project=PROJECT, cpu=2, gpu=0))
            with pytest.raises(Unavailable, match="Postgres takes no writes"):
                await writer.submit(wanted)
            await owner.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
            assert not (await writer.submit(wanted)).repeated
    finally:
        await owner.close()


async def _holds(url: str) -> None:
    connection = await database.connect(url, admin=True)
    try:
        assert (await verify.verify(connection)).events > 0
    finally:
        await connection.close()


# -- listening --------------------------------------------------------------------------------------


async def test_an_append_wakes_whoever_waits(yard: Yard, database_url: str) -> None:
    """By notification alone: the poll would be an hour away."""
    async with listening(database_url, ping_s=60) as listener:
        since = listener.hints
        waiting = asyncio.create_task(listener.moved(since, 3600))
        await yard.do(cmd.SetQuota(project=PROJECT, cpu=1, gpu=0))
        await asyncio.wait_for(waiting, 20)
        assert listener.hints > since
        await asyncio.wait_for(listener.moved(since, 3600), 20)  # a hint that was there before is not missed


async def test_a_cut_listener_comes_back_and_looks(yard: Yard, proxy: Proxy) -> None:
    async with listening(proxy.url, ping_s=60) as listener:
        since, connections = listener.hints, proxy.connections
        proxy.cut_all()
        await until(lambda: proxy.connections > connections and listener.connected.is_set())
        assert listener.hints > since, "what was missed while away is looked for"
        since = listener.hints
        await yard.do(cmd.SetQuota(project=PROJECT, cpu=1, gpu=0))
        await until(lambda: listener.hints > since)


@asynccontextmanager
async def watching(yard: Yard, listener: Listener, after: int) -> AsyncIterator[list[int]]:
    """The positions that a follower sees, with a poll that is soon."""
    seen: list[int] = []

    async def watch() -> None:
        async for events in follow.follow(yard.ledger.pool, listener, after, poll_s=0.1):
            seen.extend(event.position for event in events)

    task = asyncio.create_task(watch())
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_half_open_listener_is_polled_around(yard: Yard, proxy: Proxy) -> None:
    """Its next ping would be an hour away."""
    before = (await yard.ledger.head()).position
    async with listening(proxy.url, ping_s=3600) as listener, watching(yard, listener, before) as seen:
        first = listener.hints
        await yard.do(cmd.SetQuota(project=PROJECT, cpu=1, gpu=0))
        # The poll may find it before the hint comes.
        await until(lambda: seen == [before + 1] and listener.hints > first)
        proxy.stall()
        hints = listener.hints
        await yard.do(cmd.SetQuota(project=PROJECT, cpu=2, gpu=0))
        await until(lambda: seen == [before + 1, before + 2], what="the poll finds what no hint told")
        assert listener.hints == hints
        proxy.cut_all()


async def test_a_half_open_listener_is_noticed_and_replaced(
    yard: Yard, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "PING_TIMEOUT_S", 0.2)
    async with listening(proxy.url, ping_s=0.2) as listener:
        connections = proxy.connections
        proxy.stall()
        await until(lambda: proxy.connections > connections and listener.connected.is_set())
        hints = listener.hints
        await yard.do(cmd.SetQuota(project=PROJECT, cpu=1, gpu=0))
        await until(lambda: listener.hints > hints)


async def test_a_follower_of_one_job_or_project_sees_only_that(yard: Yard) -> None:
    await yard.submit()
    job = await yard.submit()
    await yard.run(job)
    of_job = [event.position async for events in _through(yard.ledger, job) for event in events]
    assert of_job == [event.position for event in await yard.ledger.events(job=job)]
    assert len(of_job) == 6
    assert all(event.project == PROJECT for event in await yard.ledger.events(project=PROJECT))
    assert await yard.ledger.events(project="audio") == []


async def _through(ledger: Ledger, job: UUID) -> AsyncIterator[list[ev.Event]]:
    """What a follower gets up to the present end."""
    count = len(await ledger.events(job=job))
    async for events in ledger.follow(0, job=job):
        yield events
        count -= len(events)
        if count == 0:
            return

"""What makes writing fast takes nothing away: rows remembered, and a commit of many statements."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest

from service.domain import commands as cmd
from service.domain.commands import Submission
from service.domain.states import LIVE, State
from service.errors import Invalid, NotFound, QuotaExceeded, Unavailable
from service.ledger import commit as committing
from service.ledger import database, read, rebuild, verify
from service.ledger import writer as writing
from service.ledger.chain import event_of
from service.ledger.commit import Receipt
from service.ledger.ledger import Ledger
from service.ledger.sending import Sending
from service.vault import MasterKey
from sql import queries
from tests.support import jobs
from tests.support.jobs import PROJECT
from tests.support.proxy import proxied
from tests.support.waiting import DEADLINE_S, until
from tests.support.working import writing as writing_over
from tests.support.yard import Yard

MASTER = MasterKey(b"m" * 32)
MANY = committing.EVENTS_AT_ONCE * 3 + 5


def quota(cpu: int) -> cmd.SetQuota:
    return cmd.SetQuota(project=PROJECT, cpu=cpu, gpu=0)


def token(name: str, sha256: str) -> cmd.CreateToken:
    return cmd.CreateToken(project=PROJECT, token_id=name, name=name, role="administrator", sha256=sha256)


async def whole(url: str) -> int:
    """How many events there are, in a chain that holds, with rows that are what they make."""
    connection = await database.connect(url, admin=True)
    try:
        for each in await rebuild.verify(connection, [], lambda _text: None):
            assert each.differences == (), each.fold
        return (await verify.verify(connection)).events
    finally:
        await connection.close()


async def test_a_commit_of_several_statements_is_one(yard: Yard, database_url: str) -> None:
    await yard.do(quota(MANY))
    before = (await yard.ledger.head()).position
    submitted = await asyncio.gather(*(yard.submit() for _ in range(MANY + 1)), return_exceptions=True)
    assert sum(isinstance(answer, UUID) for answer in submitted) == MANY
    assert isinstance(submitted[-1], QuotaExceeded)
    commits = "SELECT count(DISTINCT xmin::text) FROM events WHERE position > $1"
    assert await yard.ledger.pool.fetchval(commits, before) <= 2
    assert await whole(database_url) == before + MANY + 1
    assert (await yard.ledger.quota(PROJECT)).cpu_used == MANY


async def test_the_rows_of_a_commit_are_those_of_its_last_statement(yard: Yard, database_url: str) -> None:
    """A job that is touched by the first statement and by the last."""
    await yard.do(quota(MANY))
    job = uuid4()
    commands = [jobs.submit(job), *(jobs.submit(uuid4()) for _ in range(MANY - 1)), jobs.kill(job=job)]
    await asyncio.gather(*map(yard.do, commands))
    assert (await yard.ledger.job(job)).state is State.INTERRUPTED
    await whole(database_url)


async def test_a_statement_that_fails_takes_those_before_it_back(yard: Yard, database_url: str) -> None:
    """The last of many breaks a unique index: it fails alone, and nothing of the others is there twice."""
    await yard.do(quota(2 * MANY))
    await yard.do(token("a", "0a" * 32))
    before = (await yard.ledger.head()).position
    commands = [*(jobs.submit(uuid4()) for _ in range(MANY)), token("b", "0a" * 32)]
    answers = await asyncio.gather(*map(yard.do, commands), return_exceptions=True)
    assert [type(answer) for answer in answers] == [Receipt] * MANY + [asyncpg.UniqueViolationError]
    assert await whole(database_url) == before + MANY
    assert (await yard.ledger.quota(PROJECT)).cpu_used == MANY


@pytest.mark.parametrize("error", [Invalid("x", 1, "nothing"), ValueError("a bug")], ids=["known", "unknown"])
async def test_what_did_not_commit_is_not_remembered(
    yard: Yard, database_url: str, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    await yard.do(quota(2))
    with monkeypatch.context() as patch:
        patch.setattr(committing, "command_records", lambda _done: _raised(error))
        with pytest.raises(type(error)):
            await yard.submit()
    await yard.submit()
    await yard.submit()
    with pytest.raises(QuotaExceeded):
        await yard.submit()
    await whole(database_url)


async def test_a_writer_reads_no_table_whole(yard: Yard) -> None:
    """Its plans are made when there is next to nothing in the tables, and may be kept until there is much."""
    await yard.submit()
    connection: Any = yard.ledger._writer._connection
    sql, folds = queries("ledger"), queries("folds")
    for statement, arguments in (
        (folds.load, (["status"] * 1000, [str(uuid4()) for _ in range(1000)])),
        (sql.live_jobs_of, ([PROJECT], sorted(LIVE))),
        (sql.stores_in_use, ([PROJECT], sorted(LIVE))),
    ):
        plan = [each[0] for each in await connection.fetch(f"EXPLAIN {statement}", *arguments)]
        assert not any("Seq Scan" in line for line in plan), "\n".join(plan)
    looked = "SELECT relname, seq_scan, idx_scan FROM pg_stat_xact_user_tables WHERE schemaname = 'jobyard'"
    async with connection.transaction():
        keys = [str(uuid4()) for _ in range(1000)]
        await connection.fetchrow(sql.take_head, ["status"] * 1000, keys, [uuid4() for _ in range(1000)])
        scans = {name: (whole, by_index) for name, whole, by_index in await connection.fetch(looked)}
    assert [scans[name][0] for name in ("commands", "fold_status")] == [0, 0]
    assert [scans[name][1] > 0 for name in ("commands", "fold_status")] == [True, True]


async def test_a_commit_takes_four_round_trips(yard: Yard, database_url: str) -> None:
    """However many commands it is of, up to where the first are sent while others are decided.

    Counted on the line: a statement that is prepared anew each time is one statement, and two of these.
    """
    commands = [jobs.submit(uuid4()) for _ in range(committing.EVENTS_AT_ONCE)]
    asked: list[str] = []
    async with proxied(database_url) as proxy, writing_over(proxy.url) as writer:
        await writer.submit(Submission(id=uuid4(), command=quota(len(commands)), actor="test"))
        connection: Any = writer._connection
        before = proxy.round_trips
        with connection.query_logger(lambda record: asked.append(record.query)):
            wanted = [Submission(id=uuid4(), command=each, actor="test") for each in commands]
            await asyncio.gather(*map(writer.submit, wanted))
            kill = jobs.kill(job=commands[0].job)
            await writer.submit(Submission(id=uuid4(), command=kill, actor="test"))
        taken = proxy.round_trips - before
    sql = queries("ledger")
    assert asked == ["BEGIN;", sql.take_head, sql.append, "COMMIT;"] * 2
    assert taken == len(asked)


async def test_what_it_waited_for_is_what_it_decides_on(yard: Yard, database_url: str) -> None:
    """The rows, the position and the commands of earlier are those of when the lock was free, not of when it
    was asked for."""
    await yard.do(quota(1))
    admin = await database.connect(database_url, admin=True)
    other = await database.connect(database_url)
    try:
        async with admin.transaction():
            await admin.execute(queries("ledger").lock_head)
            command = uuid4()
            taking = asyncio.create_task(
                other.fetchrow(queries("ledger").take_head, ["quota"], [PROJECT], [command])
            )
            waits = "SELECT FROM pg_locks WHERE pid = $1 AND NOT granted"
            await until(lambda: yard.ledger.pool.fetch(waits, other.get_server_pid()), what="it waits")
            await admin.execute("UPDATE ledger_head SET position = position + 7")
            await admin.execute("UPDATE folds SET row = row || '{\"cpu\": 0}' WHERE fold = 'quota'")
            await admin.execute("INSERT INTO commands VALUES ($1, NULL, 1, 1)", command)
        head: Any = await taking
    finally:
        await other.close()
        await admin.close()
    assert head["at"] == (await yard.ledger.head()).position
    assert [msgspec.json.decode(row["row"])["cpu"] for row in head["rows"]] == [0]
    assert [known["id"] for known in head["known"]] == [command]


async def test_many_events_are_read_as_each_one_is(yard: Yard) -> None:
    """Those of a job and of none, by the places of their columns and by their names."""
    await yard.do(jobs.kill(job=await yard.submit()))
    records = await yard.ledger.pool.fetch(queries("ledger").read_after, 0, read.END, read.PAGE)
    events = await yard.ledger.events()
    assert len(events) > 3
    assert events == [event_of(record) for record in records]


async def test_a_rebuild_takes_up_rows_again_that_it_has_put_down(
    yard: Yard, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs that are touched on one page and on the next, with next to nothing kept in memory between them."""
    monkeypatch.setattr(rebuild, "ROWS_KEPT", 1)
    monkeypatch.setattr(rebuild, "ROWS_AT_ONCE", 1)
    many = read.PAGE // 2 + 10
    await yard.do(quota(many))
    submitted = await asyncio.gather(*(yard.submit() for _ in range(many)))
    await asyncio.gather(*(yard.do(jobs.kill(job=job)) for job in submitted))
    assert await whole(database_url) > read.PAGE


def _raised(error: Exception) -> Any:
    raise error


async def test_a_row_that_was_not_there_is_looked_for_again(yard: Yard, database_url: str) -> None:
    """It would be inserted as new where a writer still took it for missing."""
    job = uuid4()
    with pytest.raises(NotFound):
        await yard.do(jobs.kill(job=job))
    async with Ledger.open(database_url, MASTER) as other:
        await other.submit(jobs.submit(job), actor="other")
    await yard.do(jobs.kill(job=job))
    assert (await yard.ledger.job(job)).state is State.INTERRUPTED
    await whole(database_url)


async def test_a_writer_sees_what_another_wrote_in_between(yard: Yard, database_url: str) -> None:
    async with Ledger.open(database_url, MASTER) as other:
        job = await yard.submit()
        await other.submit(quota(1), actor="other")
        with pytest.raises(QuotaExceeded):
            await yard.submit()
        await other.submit(jobs.kill(job=job), actor="other")
        again = await yard.submit()
        assert (await yard.ledger.job(again)).state is State.QUEUED
    await whole(database_url)


async def test_a_writer_that_ends_in_a_statement_leaves_nothing_of_it(
    yard: Yard, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled while one statement is under way and others wait: the transaction is gone."""
    await yard.do(quota(2 * MANY))
    before = (await yard.ledger.head()).position
    begun = asyncio.Event()
    real = Sending.all

    async def slow(sending: Any) -> None:
        await real(sending)
        if begun.is_set():
            await asyncio.Event().wait()
        begun.set()

    async with Ledger.open(database_url, MASTER) as other:
        with monkeypatch.context() as patch:
            patch.setattr(Sending, "all", slow)
            calls = [
                asyncio.create_task(other.submit(jobs.submit(uuid4()), actor="other")) for _ in range(MANY)
            ]
            await begun.wait()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(answer, Exception) for answer in answers)
    assert await whole(database_url) == before
    await yard.submit()


@pytest.mark.parametrize("turns", range(4))
async def test_whoever_came_first_is_answered_when_the_writer_ends(database_url: str, turns: int) -> None:
    """At whichever turn of the loop that is: a caller never waits for one who has gone."""
    writer = writing.Writer(lambda: database.connect(database_url))
    running = asyncio.create_task(writer.run())
    await asyncio.sleep(0)
    submission = Submission(id=uuid4(), command=quota(1), actor="test")
    call = asyncio.create_task(writer.submit(submission))
    for _ in range(turns):
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(Unavailable):
        async with asyncio.timeout(DEADLINE_S):
            await call

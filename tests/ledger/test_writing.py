"""Writing: many commands a commit, each answered for itself, in one order, from any number of processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from service.domain import commands as cmd
from service.domain import events as ev
from service.domain.events import Event
from service.domain.states import State
from service.errors import Conflict, QuotaExceeded, Rejected, Unavailable
from service.ledger import database, verify
from service.ledger.commit import Receipt
from service.ledger.follow import follow
from service.ledger.ledger import Ledger
from service.vault import MasterKey
from tests.support import jobs
from tests.support.jobs import PROJECT
from tests.support.processes import write_together
from tests.support.waiting import until
from tests.support.working import writing
from tests.support.yard import Yard

MASTER = MasterKey(b"m" * 32)


def quota(cpu: int = 1) -> cmd.SetQuota:
    return cmd.SetQuota(project=PROJECT, cpu=cpu, gpu=0)


async def transactions(ledger: Ledger, after: int) -> int:
    """How many transactions wrote what lies after a position."""
    found: int = await ledger.pool.fetchval(
        "SELECT count(DISTINCT xmin::text) FROM events WHERE position > $1", after
    )
    return found


async def checked(url: str) -> verify.Verified:
    connection = await database.connect(url, admin=True)
    try:
        return await verify.verify(connection)
    finally:
        await connection.close()


async def test_a_job_from_beginning_to_end(yard: Yard, database_url: str) -> None:
    job = await yard.submit()
    await yard.run(job)
    found = await yard.ledger.job(job)
    assert [visit.state for visit in found.history] == [
        *("QUEUED", "INITIALIZING", "PENDING", "RUNNING", "FINALIZING", "DONE")
    ]
    assert (await yard.ledger.quota(PROJECT)).cpu_used == 0
    events = await yard.ledger.events(job=job)
    assert [run.positions for run in await yard.ledger.runs(job)] == [tuple(e.position for e in events)]
    assert [event.body.target for event in events] == [visit.state for visit in found.history]
    assert (await checked(database_url)).hash == (await yard.ledger.head()).hash


async def test_a_job_as_of_every_position(yard: Yard) -> None:
    job = await yard.submit()
    await yard.run(job)
    for visit in (await yard.ledger.job(job)).history:
        then = await yard.ledger.job_as_of(job, visit.position)
        assert then is not None
        assert then.state is visit.state
    assert await yard.ledger.job_as_of(job, 1) is None


async def test_many_commands_share_a_commit_and_a_refusal_is_its_callers_alone(yard: Yard) -> None:
    await yard.do(cmd.SetQuota(project=PROJECT, cpu=5, gpu=0))
    before = (await yard.ledger.head()).position
    answers = await asyncio.gather(*(yard.submit() for _ in range(20)), return_exceptions=True)
    accepted = [answer for answer in answers if isinstance(answer, UUID)]
    refused = [answer for answer in answers if isinstance(answer, QuotaExceeded)]
    assert (len(accepted), len(refused)) == (5, 15)
    assert isinstance(answers[0], UUID) and isinstance(answers[-1], QuotaExceeded)
    last = (await yard.ledger.events(before + 5))[0]
    assert (await yard.ledger.head()).position == before + 6, "the refusals are one event, as they are alike"
    assert isinstance(last.body, ev.SubmissionRefused)
    assert last.body.info.arguments == {"kind": "cpu", "asked": 1, "used": 5, "limit": 5}
    assert await transactions(yard.ledger, before) <= 2


async def test_a_refusal_between_two_leaves_both(yard: Yard) -> None:
    wrong = jobs.kill(job=uuid4())
    first, refused, last = await asyncio.gather(
        yard.do(quota(1)), yard.do(wrong), yard.do(quota(2)), return_exceptions=True
    )
    assert isinstance(first, Receipt) and isinstance(refused, Rejected) and isinstance(last, Receipt)
    assert last.position == first.position + 1


async def test_commands_of_one_commit_build_on_each_other(yard: Yard) -> None:
    job = uuid4()
    answers = await asyncio.gather(
        yard.do(jobs.submit(job)), yard.do(jobs.kill(job=job)), yard.do(jobs.start(job=job))
    )
    assert [answer.events[-1].run for answer in answers] == [1, 1, 2]
    assert (await yard.ledger.job(job)).state is State.QUEUED
    assert len(await yard.ledger.runs(job)) == 2


@pytest.mark.parametrize("other", ["erase", "remove store"])
async def test_a_credit_shares_a_commit_with_what_asks_for_all_jobs_of_its_batch(
    yard: Yard, database_url: str, other: str
) -> None:
    """In a process that has not had to do with the credited job before."""
    key = (await yard.ledger.keys.of(PROJECT)).seal("x")
    store: Any = {"project": PROJECT, "alias": "s", "endpoint": "http://s", "region": "x"}
    await yard.do(cmd.SetDataStore(**store, access_key=key, secret_key=key))
    job = await yard.submit()
    await yard.run(job)
    of_run: Any = {"project": PROJECT, "job": job, "run": 1, "reason": "so it is"}
    credit = cmd.GrantCredit(**of_run, amount=Decimal("0.0001"), currency="EUR")
    erase = cmd.EraseProject(project=PROJECT, key_ids=(key.key_id,))
    asked = erase if other == "erase" else cmd.RemoveDataStore(project=PROJECT, alias="s")
    head = (await yard.ledger.head()).position
    async with Ledger.open(database_url, MASTER) as elsewhere:
        both = [elsewhere.submit(command, actor="test") for command in (credit, asked)]
        await asyncio.gather(*both)
    assert await transactions(yard.ledger, head) == 1


async def test_what_postgres_refuses_fails_alone(yard: Yard, database_url: str) -> None:
    """Two tokens of one hash break a unique index: a bug, but not that of the others in the commit."""

    def token(name: str) -> cmd.CreateToken:
        return cmd.CreateToken(
            project=PROJECT, token_id=name, name=name, role="administrator", sha256="0a" * 32
        )

    commands = [quota(1), token("a"), quota(2), token("b"), quota(3)]
    answers = await asyncio.gather(*(yard.do(command) for command in commands), return_exceptions=True)
    assert [type(answer) for answer in answers] == [
        *(Receipt, Receipt, Receipt, asyncpg.UniqueViolationError, Receipt)
    ]
    assert (await yard.ledger.quota(PROJECT)).cpu == 3
    assert await yard.do(quota(4))
    assert (await checked(database_url)).events == (await yard.ledger.head()).position


async def test_text_that_postgres_has_no_place_for(yard: Yard) -> None:
    odd = [
        yard.ledger.submit(quota(1), actor="a\0"),
        yard.ledger.submit(quota(2), actor="a", request_id="\0"),
        yard.do(cmd.SetQuota(project="a\0", cpu=1, gpu=1)),
        yard.do(jobs.submit(uuid4(), command=("a\0",))),
        yard.do(jobs.submit(uuid4(), command=(r"\u0000", "\U0001f600\x01"))),
    ]
    answers = await asyncio.gather(*odd, return_exceptions=True)
    assert [isinstance(answer, Receipt) for answer in answers] == [False, False, False, False, True]
    job = answers[-1].events[0].job if isinstance(answers[-1], Receipt) else None
    assert job is not None
    assert (await yard.ledger.job(job)).spec.command == (r"\u0000", "\U0001f600\x01")


# -- repeats ----------------------------------------------------------------------------------------


async def test_a_repeat_is_answered_with_the_first_events(yard: Yard) -> None:
    name, job = uuid4(), uuid4()
    first = await yard.do(jobs.submit(job), command_id=name, digest=b"one")
    await yard.do(jobs.kill(job=job))
    again = await yard.do(jobs.submit(uuid4()), command_id=name, digest=b"one")
    assert (again.events, again.repeated, first.repeated) == (first.events, True, False)
    assert again.position == first.position
    with pytest.raises(Conflict, match="Idempotency-Key"):
        await yard.do(jobs.submit(job), command_id=name, digest=b"another")
    assert (await yard.do(quota(), command_id=name)).events == first.events, "without a digest: not compared"


async def test_a_repeat_within_one_commit(yard: Yard) -> None:
    name, job = uuid4(), uuid4()
    before = (await yard.ledger.head()).position
    answers = await asyncio.gather(
        *(yard.do(jobs.submit(job), command_id=name, digest=b"one") for _ in range(5)),
        yard.do(quota(), command_id=name, digest=b"another"),
        return_exceptions=True,
    )
    receipts = [answer for answer in answers if isinstance(answer, Receipt)]
    assert [receipt.repeated for receipt in receipts] == [False, True, True, True, True]
    assert all(receipt.events == receipts[0].events for receipt in receipts)
    assert isinstance(answers[-1], Conflict)
    assert (await yard.ledger.head()).position == before + 1


async def test_a_refused_command_may_be_tried_again_under_its_id(yard: Yard) -> None:
    name = uuid4()
    await yard.do(cmd.SetQuota(project=PROJECT, cpu=0, gpu=0))
    with pytest.raises(QuotaExceeded):
        await yard.do(jobs.submit(), command_id=name)
    await yard.do(quota(1))
    assert (await yard.ledger.events(0))[-2].command_id == name, "the refusal is known"
    assert not (await yard.do(jobs.submit(), command_id=name)).repeated


async def test_one_command_from_many_processes_is_carried_out_once(yard: Yard, database_url: str) -> None:
    name = str(uuid4())
    before = (await yard.ledger.head()).position
    said = await write_together(database_url, *[(name, 20, 20)] * 3)
    answers = [answer for process in said for answer in process]
    assert sum(not repeated for _, repeated in answers) == 1
    assert {tuple(positions) for positions, _ in answers} == {(before + 1,)}
    assert (await yard.ledger.head()).position == before + 1


# -- many processes ---------------------------------------------------------------------------------


@asynccontextmanager
async def following(url: str, after: int) -> AsyncIterator[list[Event]]:
    """What a follower sees meanwhile, on connections of its own."""
    seen: list[Event] = []
    async with Ledger.open(url, MASTER, readers=1) as other:

        async def watch() -> None:
            async for events in follow(other.pool, other.listener, after):
                seen.extend(events)

        task = asyncio.create_task(watch())
        try:
            yield seen
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_processes_write_one_order_without_gaps(yard: Yard, database_url: str) -> None:
    before = (await yard.ledger.head()).position
    total = 4 * 250
    async with following(database_url, before) as seen:
        said = await write_together(database_url, *[("quotas", 250, 25)] * 4)
        await until(lambda: len(seen) >= total, what="the follower sees every event")
    expected = list(range(before + 1, before + total + 1))
    assert [event.position for event in seen] == expected, "each once, in order"
    assert (
        sorted(position for process in said for positions, _ in process for position in positions) == expected
    )
    events = [event async for page in _pages(yard.ledger, before) for event in page]
    assert events == seen
    assert all(a.recorded_at <= b.recorded_at for a, b in pairwise(events))
    assert (await checked(database_url)).events == before + total
    last = events[-1].body
    assert isinstance(last, ev.QuotaSet)
    assert (await yard.ledger.quota(PROJECT)).cpu == last.cpu


async def _pages(ledger: Ledger, after: int) -> AsyncIterator[list[Event]]:
    while events := await ledger.events(after, limit=333):
        yield events
        after = events[-1].position


async def test_quota_is_not_overshot_by_processes(yard: Yard, database_url: str) -> None:
    for limit in (10, 20, 30):
        await yard.do(quota(limit))
        said = await write_together(database_url, *[("submit", 100, 100)] * 2)
        answers = [answer for process in said for answer in process]
        assert answers.count("quota-exceeded") == 190
        assert sum(isinstance(answer, list) for answer in answers) == 10
        found = await yard.ledger.quota(PROJECT)
        live, count = await yard.ledger.jobs(PROJECT, states=[State.QUEUED], limit=100)
        assert (found.cpu_used, count, len(live)) == (limit, limit, limit)


# -- ends -------------------------------------------------------------------------------------------


async def test_a_closed_ledger_says_so(database_url: str) -> None:
    made = cmd.CreateProject(project=PROJECT, name="Vision", cpu=1, gpu=1)
    submission = cmd.Submission(id=uuid4(), command=made, actor="test")
    async with writing(database_url) as writer:
        assert (await writer.submit(submission)).position == 1
    with pytest.raises(Unavailable, match="closing"):
        await writer.submit(submission)


async def test_a_caller_that_went_away_stops_nobody(yard: Yard) -> None:
    gone = [asyncio.create_task(yard.do(quota(n))) for n in range(5)]
    stays = asyncio.create_task(yard.do(quota(9)))
    await until(lambda: bool(yard.ledger._writer._queue) or stays.done())
    for task in gone:
        task.cancel()
    assert (await stays).events[0].body == ev.QuotaSet(cpu=9, gpu=0)
    assert await yard.do(quota(10))


async def test_the_clock_never_goes_back(yard: Yard) -> None:
    """A server whose clock was set back: the ledger's time stands still instead."""
    ahead = (await yard.ledger.now()) + timedelta(hours=1)
    await yard.ledger.pool.execute("UPDATE ledger_head SET recorded_at = $1", ahead)
    first, second = await yard.do(quota(1)), await yard.do(quota(2))
    assert first.events[0].recorded_at == second.events[0].recorded_at == ahead

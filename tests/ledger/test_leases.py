"""Leases: one holder at a time, an epoch that only rises, and no word of a holder whose time is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable

import asyncpg
import pytest

from service.domain import commands as cmd
from service.errors import StaleEpoch
from service.ledger import database, leases
from service.ledger.leases import Lease
from tests.support import jobs
from tests.support.jobs import ENGINE, NODE
from tests.support.waiting import until
from tests.support.yard import Yard


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    made = await database.connect(database_url)
    yield made
    await made.close()


async def take(
    source: asyncpg.Connection, holder: str, ttl_s: float = 600, *, gone: str = ""
) -> Lease | None:
    """`gone`: the one holder that is known to be."""
    return await leases.take(source, "e", holder, ttl_s, gone=lambda before: before == gone)


async def taken(source: asyncpg.Connection, holder: str, ttl_s: float = 600, *, gone: str = "") -> Lease:
    lease = await take(source, holder, ttl_s, gone=gone)
    assert lease is not None
    return lease


async def test_the_first_one_has_it_and_keeps_it(connection: asyncpg.Connection) -> None:
    lease = await taken(connection, "host/a")
    assert (lease.epoch, lease.absent_since) == (1, None)
    assert await take(connection, "host/b") is None
    assert await take(connection, "host/b", gone="host/c") is None, "another one's end proves nothing"
    assert await leases.renew(connection, lease, 600)


async def test_a_lease_that_is_over_is_taken_and_its_holder_told(connection: asyncpg.Connection) -> None:
    old = await taken(connection, "host/a", 0)
    new = await taken(connection, "other/b")
    assert new.epoch == old.epoch + 1
    assert new.absent_since is not None
    assert not await leases.renew(connection, old, 600)
    await leases.release(connection, old)  # of a lease that is no longer ours: changes nothing
    assert await leases.renew(connection, new, 600)
    assert await take(connection, "host/a") is None


async def test_of_a_holder_that_is_gone_it_is_taken_at_once(connection: asyncpg.Connection) -> None:
    old = await taken(connection, "host/a")
    new = await taken(connection, "host/b", gone="host/a")
    assert (new.epoch, new.absent_since is None) == (old.epoch + 1, False)


async def test_a_released_lease_is_free_at_once(connection: asyncpg.Connection) -> None:
    old = await taken(connection, "host/a")
    await leases.release(connection, old)
    assert (await taken(connection, "other/b")).epoch == old.epoch + 1


async def test_it_runs_out_by_itself(connection: asyncpg.Connection) -> None:
    lease = await taken(connection, "host/a")
    assert await take(connection, "other/b") is None
    assert await leases.renew(connection, lease, 0.2)
    await until(lambda: _free(connection))
    assert await take(connection, "other/b") is not None


async def _free(connection: asyncpg.Connection) -> bool:
    return bool(await connection.fetchval("SELECT expires_at <= clock_timestamp() FROM leases"))


async def test_of_many_at_once_one_gets_it(database_url: str) -> None:
    connections = [await database.connect(database_url) for _ in range(6)]
    epochs: list[int] = []
    for _ in range(10):
        answers = await asyncio.gather(
            *(take(each, f"h{number}/x") for number, each in enumerate(connections))
        )
        [lease] = [answer for answer in answers if answer is not None]
        epochs.append(lease.epoch)
        await leases.release(connections[0], lease)
    assert epochs == list(range(1, 11))
    for each in connections:
        await each.close()


async def test_the_word_of_a_holder_that_was_overtaken_does_not_count(
    yard: Yard, connection: asyncpg.Connection
) -> None:
    """However it was held up: the epoch is looked at when the command is decided."""
    job = await yard.submit()
    stale = cmd.PlaceRun(**yard.of(job), node=NODE)
    overtaken = await leases.take(connection, ENGINE, "host/other", 600, gone=lambda _: True)
    assert overtaken is not None
    with pytest.raises(StaleEpoch):
        await yard.do(stale)
    yard.epoch = overtaken.epoch
    assert await yard.do(cmd.PlaceRun(**yard.of(job), node=NODE))
    with pytest.raises(StaleEpoch):
        await yard.do(jobs.prepared(**(yard.of(job) | {"engine": "unknown"})))


async def test_a_repeat_of_what_was_done_before_is_answered_under_any_epoch(
    yard: Yard, connection: asyncpg.Connection
) -> None:
    job = await yard.submit()
    placed = cmd.Submission(id=job, command=cmd.PlaceRun(**yard.of(job), node=NODE), actor="test")
    first = await yard.ledger._writer.submit(placed)
    assert await leases.take(connection, ENGINE, "host/other", 600, gone=lambda _: True)
    assert (await yard.ledger._writer.submit(placed)).events == first.events


async def test_who_takes_a_lease_is_told_whether_the_one_before_may_still_go_on(
    connection: asyncpg.Connection,
) -> None:
    def over_soon(name: str) -> Awaitable[Lease]:
        return taken(connection, name, 0.001)

    async def after_it(name: str) -> Lease:
        found: list[Lease] = []

        async def had() -> bool:
            lease = await take(connection, name)
            found.extend([lease] if lease else [])
            return bool(found)

        await until(had)
        return found[0]

    assert not (await over_soon("host/a")).unfenced, "there was nobody"
    assert (await after_it("host/b")).unfenced, "its lease ran out, and no more is known"
    third = await taken(connection, "host/c", gone="host/b")
    assert not third.unfenced, "it is known to be gone"
    await leases.release(connection, third)
    assert not (await over_soon("other/d")).unfenced, "it was given back"


@pytest.mark.parametrize("released", [False, True])
async def test_who_took_over_and_was_cut_off_does_not_end_the_absence(
    connection: asyncpg.Connection, *, released: bool
) -> None:
    """It is as if it had not been there, until its first renewal, which says that all was taken over."""
    first = await taken(connection, "one/a")
    assert await leases.renew(connection, first, 0)
    seen = await connection.fetchval("SELECT renewed_at FROM leases")
    second = await taken(connection, "two/b", 0 if not released else 600)
    assert second.absent_since == seen
    if released:
        await leases.release(connection, second)
    third = await taken(connection, "three/c")
    assert third.absent_since == seen
    assert third.unfenced != released
    assert await leases.renew(connection, third, 0)
    assert (await taken(connection, "four/d")).absent_since > seen


async def test_a_lease_may_be_held_before_all_was_taken_over(connection: asyncpg.Connection) -> None:
    first = await taken(connection, "one/a", 0)
    second = await taken(connection, "two/b", 0)
    assert await leases.renew(connection, second, 600, seen=False)
    assert await take(connection, "three/c") is None
    assert await leases.renew(connection, second, 0, seen=False)
    third = await taken(connection, "three/c")
    assert third.absent_since == second.absent_since
    assert not await leases.renew(connection, first, 600, seen=False)

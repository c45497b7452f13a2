"""Keys that an event says are destroyed are gone, after any crash and in every process; all else stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from service.domain import commands as cmd
from service.domain.checkpoint import PublicKey, origin_of
from service.domain.spec import EnvVar, Sealed
from service.errors import Conflict, Erased, Unavailable
from service.ledger import database, rebuild
from service.ledger.follow import Listener
from service.ledger.keys import Keys
from service.ledger.ledger import Ledger
from tests.audit.conftest import SIGNING, Signed, against, signer
from tests.conftest import MASTER
from tests.ledger.standby import standby
from tests.support import jobs
from tests.support.jobs import PROJECT
from tests.support.waiting import until
from tests.support.yard import Yard

CLEAR = "correct-horse-battery-staple"


async def with_secret(yard: Yard, *, ended: bool = True) -> tuple[UUID, Sealed]:
    """A job that seals something under its own key, as the API does it."""
    job = uuid4()
    sealed = (await yard.ledger.keys.of_job(PROJECT, job)).seal(CLEAR)
    await yard.do(jobs.submit(job, env=(EnvVar("A", sealed),)))
    if ended:
        await yard.run(job)
    return job, sealed


async def told(yard: Yard, job: UUID) -> None:
    """Only the event, as after a kill right behind its commit."""
    keys = yard.ledger.keys
    of_job, all_of_it = await keys.ids_of_job(job), await yard.ledger.sealed_under(job)
    await yard.do(cmd.EraseJob(project=PROJECT, job=job, key_ids=of_job, sealed_under=all_of_it))


async def count(yard: Yard) -> int:
    found: int = await yard.ledger.pool.fetchval("SELECT count(*) FROM job_keys")
    return found


async def nothing(_keys: Keys) -> int:
    return 0


async def test_a_job_has_a_key_of_its_own_that_opens_nothing_else(yard: Yard) -> None:
    (one, a), (_, b) = await with_secret(yard), await with_secret(yard)
    assert a.key_id != b.key_id
    assert {a.key_id.partition(".")[0], b.key_id.partition(".")[0]} == {
        (await yard.ledger.keys.of(PROJECT)).id
    }
    again = await Keys(yard.ledger.pool, MASTER).of_job(PROJECT, one)
    assert again.id == a.key_id, "every process has the same"
    await told(yard, one)
    await yard.ledger.keys.destroy_told()
    stranger = Keys(yard.ledger.pool, MASTER)
    assert await stranger.opened([a, b]) == {a: None, b: CLEAR}


async def test_what_a_killed_process_left_the_next_one_destroys(
    yard: Yard, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event is there and the key still is: whoever comes next finds both."""
    job, sealed = await with_secret(yard)
    with monkeypatch.context() as killed:
        killed.setattr(Keys, "_destroy", nothing)
        await told(yard, job)
        assert await count(yard) == 1
    async with Ledger.open(database_url, MASTER, readers=2) as next_one:
        await until(lambda: _gone(next_one, sealed))
    assert await count(yard) == 0


async def _gone(ledger: Ledger, sealed: Sealed) -> bool:
    return (await ledger.keys.opened([sealed]))[sealed] is None


async def test_every_process_forgets_what_it_had_in_memory(yard: Yard, database_url: str) -> None:
    job, sealed = await with_secret(yard)
    async with Ledger.open(database_url, MASTER, readers=2) as other:
        await until(lambda: other.keys._forgotten)  # its first look is over
        assert await other.open_secret(sealed) == CLEAR
        assert await other.keys.of(PROJECT)
        assert other.keys._by_id
        assert other.keys._by_project
        await told(yard, job)
        await until(lambda: not other.keys._by_id and not other.keys._by_project)
        await until(lambda: _gone(other, sealed), what="its rows are deleted after that")
        with pytest.raises(Erased):
            await other.open_secret(sealed)
        assert not other.keys._by_id


async def test_a_process_that_cannot_see_the_ledger_holds_no_key(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.ledger.keys.BLIND_S", 0.0)
    _, sealed = await with_secret(yard)
    assert await yard.ledger.open_secret(sealed) == CLEAR
    monkeypatch.setattr("service.ledger.keys._SQL", _Silent())
    await until(lambda: not yard.ledger.keys._by_id)


class _Silent:
    """Statements of a database that is away."""

    def __getattr__(self, _name: str) -> str:
        raise Unavailable("Postgres does not answer")


async def test_a_process_whose_readers_are_all_busy_holds_no_key_for_long(
    yard: Yard, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot look either, though its database is there."""
    monkeypatch.setattr("service.ledger.keys.BLIND_S", 0.1)
    _, sealed = await with_secret(yard)
    async with Ledger.open(database_url, MASTER, readers=1) as other:
        async with other.pool.acquire():
            await until(lambda: other.keys._forgotten)
        await until(lambda: other.open_secret(sealed))
        async with other.pool.acquire():
            await until(lambda: not other.keys._by_id)
        await until(lambda: other.open_secret(sealed))


class _Counted:
    """A pool that counts what it was asked, and connections to rewrite by."""

    def __init__(self, pool: asyncpg.Pool, url: str) -> None:
        self._pool = pool
        self._url = url
        self.looks = 0
        self.rewrites = 0

    def __getattr__(self, name: str) -> Any:
        self.looks += name == "fetchval"
        return getattr(self._pool, name)

    async def owner(self) -> asyncpg.Connection:
        self.rewrites += 1
        return await database.connect(self._url, admin=True)


@asynccontextmanager
async def watching(keys: Keys, listener: Listener) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(each) for each in (keys.watch(listener), keys.rewrite_owed())]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_tables_that_somebody_holds_are_left_alone_for_a_while(
    yard: Yard, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for them makes all wait who would only read a key; and what is in memory stays there."""
    monkeypatch.setattr("service.ledger.keys.PAUSE_S", 0.0)
    monkeypatch.setattr("service.ledger.keys.LOOK_S", 0.01)
    monkeypatch.setattr("service.ledger.keys.REWRITE_PAUSE_S", 3600.0)
    monkeypatch.setattr("service.ledger.keys.REWRITE_PAUSE_MOST_S", 3600.0)
    (job, _), (_, sealed) = await with_secret(yard), await with_secret(yard)
    await told(yard, job)
    await yard.ledger.keys.destroy_told()
    holder = await database.connect(database_url, admin=True)
    pool: Any = _Counted(yard.ledger.pool, database_url)
    try:
        async with holder.transaction():
            await holder.execute("SELECT FROM job_keys, project_keys")
            keys = Keys(pool, MASTER, pool.owner)
            async with watching(keys, yard.ledger.listener):
                await until(lambda: pool.rewrites)
                assert await keys.open(sealed) == CLEAR
                held, looks = dict(keys._by_id), pool.looks
                await until(lambda: keys._rewrite_at)
                await until(lambda: pool.looks > looks + 20)
                assert pool.rewrites == 1
                assert keys._by_id == held
    finally:
        await holder.close()


async def test_a_key_that_is_loaded_while_it_goes_is_not_kept(yard: Yard) -> None:
    _, sealed = await with_secret(yard)
    keys = Keys(yard.ledger.pool, MASTER)
    loading = keys._unwrapped

    def meanwhile(record: Any) -> Any:
        keys.forget()
        return loading(record)

    keys._unwrapped = meanwhile  # type: ignore[method-assign]
    assert await keys.open(sealed) == CLEAR
    assert keys._by_id == {}


async def test_keys_of_refused_submits_are_swept_and_no_others(yard: Yard, database_url: str) -> None:
    job, _ = await with_secret(yard, ended=False)
    left, fresh = uuid4(), uuid4()
    for each in (left, fresh):
        await yard.ledger.keys.of_job(PROJECT, each)
    admin = await asyncpg.connect(database_url, server_settings={"search_path": "jobyard"})
    await admin.execute("UPDATE job_keys SET made_at = made_at - interval '2 hours' WHERE job <> $1", fresh)
    await admin.close()
    async with Ledger.open(database_url, MASTER, readers=2):
        await until(lambda: _is_swept(yard, left))
    found = await yard.ledger.pool.fetch("SELECT job FROM job_keys")
    assert {UUID(int=record["job"].int) for record in found} == {job, fresh}


async def _is_swept(yard: Yard, job: UUID) -> bool:
    return await yard.ledger.keys.ids_of_job(job) == ()


async def test_what_is_sealed_under_a_key_that_went_meanwhile_is_not_recorded(yard: Yard) -> None:
    """Its seal came before the erasure, and its command after."""
    keys = yard.ledger.keys
    job = uuid4()
    sealed, of_project = (await keys.of_job(PROJECT, job)).seal(CLEAR), (await keys.of(PROJECT)).seal(CLEAR)
    await yard.do(cmd.EraseProject(project=PROJECT, key_ids=(of_project.key_id,)))
    store: Any = {"project": PROJECT, "alias": "s", "endpoint": "http://s", "region": "x"}
    late: list[cmd.Command] = [
        jobs.submit(job, env=(EnvVar("A", sealed),)),
        cmd.SetDataStore(**store, access_key=of_project, secret_key=of_project),
        cmd.SetRegistry(
            project=PROJECT, registry_id="r", user="a", url="https://r", username="a", password=of_project
        ),
    ]
    for command in late:
        with pytest.raises(Erased, match="send the request again"):
            await yard.do(command)


async def test_a_job_is_not_live_while_its_project_is_erased(yard: Yard) -> None:
    """Decided under the head lock, the jobs of the very batch included."""
    key = (await yard.ledger.keys.of(PROJECT)).id
    erase = cmd.EraseProject(project=PROJECT, key_ids=(key,))
    job, _ = await with_secret(yard, ended=False)
    with pytest.raises(Conflict, match="1 job that has not ended"):
        await yard.do(erase)
    await yard.do(cmd.KillJob(project=PROJECT, job=job))
    await yard.do(erase)
    with pytest.raises(Erased, match="the project's secrets were erased"):
        await yard.do(cmd.StartJob(project=PROJECT, job=job))


async def test_a_secret_from_before_jobs_had_keys_goes_with_its_project(yard: Yard) -> None:
    old = (await yard.ledger.keys.of(PROJECT)).seal(CLEAR)
    job = await yard.submit(env=(EnvVar("A", old),))
    await yard.run(job)
    assert await yard.ledger.open_secret(old) == CLEAR
    with pytest.raises(Conflict, match="with the whole project's"):
        await told(yard, job)
    await yard.do(cmd.EraseProject(project=PROJECT, key_ids=(old.key_id,)))
    await told(yard, job)
    await until(lambda: _gone(yard.ledger, old))


async def test_every_proof_bill_and_read_stays(yard: Yard, database_url: str, tmp_path: Path) -> None:
    (job, sealed), (other, _) = await with_secret(yard), await with_secret(yard)
    bills = [await yard.ledger.runs(each) for each in (job, other)]
    before = await yard.ledger.head()
    was = await yard.ledger.job(job)
    checkpoints = signer(yard.ledger, tmp_path)
    assert await checkpoints.run_once(now=True) is not None
    await told(yard, job)
    await yard.do(cmd.EraseProject(project=PROJECT, key_ids=await yard.ledger.keys.ids_of_project(PROJECT)))
    await yard.ledger.keys.destroy_told()
    assert await checkpoints.run_once(now=True) is not None
    assert [await yard.ledger.runs(each) for each in (job, other)] == bills
    assert await yard.ledger.job_as_of(job, before.position) == was
    connection = await database.connect(database_url, admin=True)
    try:
        signed = Signed(
            database_url, before.ledger_id, tmp_path, PublicKey(origin_of(before.ledger_id), SIGNING.public)
        )
        verified, evidence = await against(connection, signed)
        assert (verified.events, evidence.problems) == (before.position + 2, [])
        assert [each.size for each in evidence.checkpoints] == [before.position, before.position + 2]
        for found in await rebuild.rebuild(connection, [], lambda _text: None):
            assert found.differences == (), found.fold
        for (table,) in await connection.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'jobyard'"
        ):
            rows = await connection.fetch(f"SELECT t::text FROM {table} t")
            assert not any(CLEAR in row[0] for row in rows), table
        assert await connection.fetchval("SELECT count(*) FROM job_keys") == 0
        assert await connection.fetchval("SELECT count(*) FROM project_keys") == 0
    finally:
        await connection.close()
    assert (await yard.ledger.job(job)).spec.env[0].value == sealed, "the ciphertext stays"


class Looks:
    """A listener whose owner looks when a test wants it to."""

    def __init__(self) -> None:
        self.hints = 0
        self._over, self._next = asyncio.Event(), asyncio.Event()

    async def moved(self, _since: int, _timeout_s: float) -> None:
        self._over.set()
        await self._next.wait()
        self._next.clear()

    async def over(self) -> None:
        """The next one, or the first."""
        self._over.clear()
        self._next.set()
        await self._over.wait()


async def test_a_key_destroyed_where_a_lost_one_was_is_forgotten_as_well(
    yard: Yard, database_url: str
) -> None:
    """A failover lost the word on one key, and the word on another came to its very position."""
    (one, _), (two, sealed) = await with_secret(yard), await with_secret(yard)
    other, looks = Keys(yard.ledger.pool, MASTER), Looks()
    listener: Any = looks
    watching = asyncio.create_task(other.watch(listener))
    async with standby(database_url) as fail_over:
        await told(yard, one)
        lost = (await yard.ledger.head()).position
        await looks.over()
        await looks.over()  # one that began after it
        assert await other.open(sealed) == CLEAR
        await fail_over()
        await told(yard, two)
        assert (await yard.ledger.head()).position == lost
        assert await other.open(sealed) == CLEAR
        await looks.over()
        await looks.over()
        with pytest.raises(Erased):
            await other.open(sealed)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)

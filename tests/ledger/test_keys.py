"""The keys: made once, sealed, beside the ledger; when one is destroyed, its secrets are gone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from service.domain import commands as cmd
from service.domain.spec import EnvVar
from service.errors import Erased, Misconfigured
from service.ledger import database, verify
from service.ledger.keys import Keys
from service.ledger.ledger import Ledger
from service.vault import MasterKey
from tests.conftest import MASTER
from tests.support.jobs import PROJECT
from tests.support.yard import Yard


async def test_a_key_is_made_once_for_all_processes(ledger: Ledger) -> None:
    processes = [Keys(ledger.pool, MASTER) for _ in range(8)]
    found = await asyncio.gather(*(keys.of(PROJECT) for keys in processes))
    assert len({key.id for key in found}) == 1
    sealed = found[0].seal("secret")
    assert [await keys.open(sealed) for keys in processes] == ["secret"] * 8
    assert await ledger.pool.fetchval("SELECT count(*) FROM project_keys") == 1


async def test_a_stranger_to_the_key_opens_it_by_its_id(ledger: Ledger) -> None:
    sealed = (await ledger.keys.of(PROJECT)).seal("secret")
    other = Keys(ledger.pool, MASTER)
    assert await other.open(sealed) == "secret"
    assert (await other.of(PROJECT)).id == sealed.key_id


async def test_projects_have_keys_of_their_own(ledger: Ledger) -> None:
    ours, theirs = await ledger.keys.of(PROJECT), await ledger.keys.of("audio")
    assert ours.id != theirs.id
    with pytest.raises(Misconfigured):
        theirs.open(ours.seal("secret"))


async def test_another_master_key_opens_nothing(ledger: Ledger) -> None:
    sealed = (await ledger.keys.of(PROJECT)).seal("secret")
    other = Keys(ledger.pool, MasterKey(b"x" * 32))
    for attempt in (other.open(sealed), other.of(PROJECT)):
        with pytest.raises(Misconfigured, match="another master key"):
            await attempt


async def test_a_destroyed_key_erases_the_secret_and_no_proof(yard: Yard, database_url: str) -> None:
    sealed = (await yard.ledger.keys.of(PROJECT)).seal("secret")
    job = await yard.submit(env=(EnvVar("A", sealed),))
    await yard.run(job)
    await yard.do(cmd.EraseProject(project=PROJECT, key_ids=(sealed.key_id,)))
    await yard.ledger.keys.destroy_told()
    for keys in (yard.ledger.keys, Keys(yard.ledger.pool, MASTER)):
        with pytest.raises(Erased, match="was destroyed"):
            await keys.open(sealed)
    connection = await database.connect(database_url, admin=True)
    assert (await verify.verify(connection)).events == 9
    stored = await connection.fetch("SELECT data::text FROM events UNION ALL SELECT row::text FROM folds")
    await connection.close()
    assert not any("secret" in record[0] for record in stored if "secretKey" not in record[0])
    assert (await yard.ledger.job(job)).spec.env[0].value == sealed


async def test_nothing_of_a_key_is_stored_in_the_clear(ledger: Ledger) -> None:
    key = await ledger.keys.of(PROJECT)
    record: Any = await ledger.pool.fetchrow("SELECT * FROM project_keys")
    assert key._key not in bytes(record["box"]) + bytes(record["nonce"])

"""Read models are made from the events alone: verified row by row, and made anew while others write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import typer

from projections import status
from projections.catalogue import FOLDS
from service.cli import projections
from service.cli.output import Output
from service.domain import commands as cmd
from service.domain import evolve
from service.domain.events import Info
from service.domain.states import State
from service.errors import Invalid, QuotaExceeded
from service.ledger import database, rebuild
from service.ledger.rebuild import Comparison
from sql import migrations
from tests.support import jobs
from tests.support.jobs import PROJECT
from tests.support.waiting import until
from tests.support.yard import Yard


@pytest.fixture
async def admin(yard: Yard, database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A row or more in every fold."""
    await yard.run(await yard.submit())
    await yard.run(await yard.submit(), upto=State.RUNNING)
    await yard.do(jobs.kill(job=await yard.submit(kind="gpu")))
    await yard.do(
        cmd.CreateToken(project=PROJECT, token_id="t", name="t", role="administrator", sha256="0a" * 32)
    )
    await yard.do(cmd.GrantCredit(project=PROJECT, amount=Decimal(2), currency="EUR", reason="kindness"))
    await yard.do(cmd.StartSupervisor(engine=jobs.ENGINE, epoch=yard.epoch, node=jobs.NODE))
    hook: dict[str, Any] = {"project": PROJECT, "webhook_id": "h"}
    await yard.do(cmd.SetWebhook(**hook, place="https://a.test", url=jobs.SEALED, secret=jobs.SEALED))
    await yard.do(cmd.RotateWebhook(**hook, secret=jobs.SEALED, keep_s=60))
    await yard.do(cmd.PauseWebhook(**hook, info=Info("by-order", "Because.")))
    with pytest.raises(QuotaExceeded):
        await yard.submit(units=1000)
    connection = await database.connect(database_url, admin=True)
    yield connection
    await connection.close()


def unsaid(_text: str) -> None:
    """Nobody reads the progress here."""


def wrong(found: list[Comparison]) -> dict[str, list[str]]:
    return {each.fold: [row.key for row in each.differences] for each in found if each.differences}


async def test_the_live_rows_are_what_the_events_make(admin: asyncpg.Connection, yard: Yard) -> None:
    found = await rebuild.verify(admin, [], unsaid)
    assert {each.fold: each.rows for each in found} == {
        **{"status": 3, "quota": 1, "billing": 3},
        **{
            "projects": 1,
            "tokens": 1,
            "prices": 1,
            "nodes": 1,
            "credits": 1,
            "refusals": 1,
            "spend": 1,
            "webhooks": 1,
        },
    }
    assert set(FOLDS) == {each.fold for each in found}
    assert wrong(found) == {}
    assert {each.position for each in found} == {(await yard.ledger.head()).position}


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE folds SET row = row || '{\"tampered\": 1}' WHERE fold = $1 AND key = $2",
        "DELETE FROM folds WHERE fold = $1 AND key = $2",
        "INSERT INTO folds SELECT fold, 'zzz', position, row || jsonb_build_object('sha256', 'x') FROM folds"
        " WHERE fold = $1 AND key = $2",
    ],
    ids=["changed", "deleted", "added"],
)
async def test_a_row_that_was_tampered_with_is_found_and_repaired(
    admin: asyncpg.Connection, change: str
) -> None:
    for fold in FOLDS:
        before = await admin.fetch("SELECT * FROM folds WHERE fold = $1 ORDER BY key", fold)
        key = before[0]["key"]
        await admin.execute(change, fold, key)
        named = "zzz" if change.startswith("INSERT") else key
        assert wrong(await rebuild.verify(admin, [], unsaid)) == {fold: [named]}
        assert wrong(await rebuild.rebuild(admin, [fold], unsaid)) == {fold: [named]}
        assert wrong(await rebuild.verify(admin, [], unsaid)) == {}
        assert await admin.fetch("SELECT * FROM folds WHERE fold = $1 ORDER BY key", fold) == before


async def test_a_row_that_says_another_position_is_found_and_repaired(
    admin: asyncpg.Connection, yard: Yard
) -> None:
    """What is told of the past rests on it: with an earlier one the row of today would be that of then."""
    for fold in FOLDS:
        before = await admin.fetch("SELECT * FROM folds WHERE fold = $1 ORDER BY key", fold)
        key, last = before[0]["key"], before[0]["position"]
        for position in (last - 1, last + 1000):
            moved = "UPDATE folds SET position = $3 WHERE (fold, key) = ($1, $2)"
            await admin.execute(moved, fold, key, position)
            found = await rebuild.verify(admin, [], unsaid)
            assert wrong(found) == {fold: [key]}
            ((difference,),) = [each.differences for each in found if each.differences]
            assert difference.live == difference.rebuilt is not None
            assert (difference.live_position, difference.rebuilt_position) == (position, last)
            assert wrong(await rebuild.rebuild(admin, [fold], unsaid)) == {fold: [key]}
            assert wrong(await rebuild.verify(admin, [], unsaid)) == {}
        assert await admin.fetch("SELECT * FROM folds WHERE fold = $1 ORDER BY key", fold) == before


async def test_the_command_shows_the_position_where_that_is_what_differs(
    admin: asyncpg.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    await admin.execute("UPDATE folds SET position = 1 WHERE fold = 'quota'")
    (found,) = await rebuild.verify(admin, ["quota"], unsaid)
    with pytest.raises(typer.Exit):
        projections.report(Output(None), [found])
    said = capsys.readouterr()
    assert "live     as of event 1: {" in said.err
    assert f"rebuilt  as of event {found.differences[0].rebuilt_position}: {{" in said.err
    shown = projections.as_json(found)["differences"][0]
    assert (shown["livePosition"], shown["live"] == shown["rebuilt"]) == (1, True)


async def test_rebuilding_from_nothing(admin: asyncpg.Connection, yard: Yard) -> None:
    before = await admin.fetch("SELECT * FROM folds ORDER BY fold, key")
    await admin.execute("DELETE FROM folds")
    assert (await yard.ledger.jobs(PROJECT, limit=9))[1] == 0
    await rebuild.rebuild(admin, [], unsaid)
    assert await admin.fetch("SELECT * FROM folds ORDER BY fold, key") == before
    assert (await yard.ledger.jobs(PROJECT, limit=9))[1] == 3


async def test_an_unknown_projection_is_named(admin: asyncpg.Connection) -> None:
    with pytest.raises(Invalid, match="projection: 'stats' is not allowed; the projections are status"):
        await rebuild.verify(admin, ["stats"], unsaid)


async def test_rebuilding_while_others_write(admin: asyncpg.Connection, yard: Yard) -> None:
    wanted = 0
    going = True

    async def write() -> None:
        nonlocal wanted
        while going:
            job = uuid4()
            await yard.do(jobs.submit(job))
            await yard.do(jobs.kill(job=job))
            wanted += 1

    writers = [asyncio.create_task(write()) for _ in range(3)]
    try:
        for _ in range(3):
            reached = wanted
            assert wrong(await rebuild.rebuild(admin, [], unsaid)) == {}
            await until(lambda reached=reached: wanted > reached + 3)  # type: ignore[misc]
    finally:
        going = False
        await asyncio.gather(*writers)
    assert wrong(await rebuild.verify(admin, [], unsaid)) == {}
    assert (await yard.ledger.jobs(PROJECT, limit=1))[1] == wanted + 3


async def test_a_writer_does_not_bring_back_what_was_repaired(admin: asyncpg.Connection, yard: Yard) -> None:
    """The writer had read the tampered row and remembers it."""
    await yard.do(cmd.SetQuota(project=PROJECT, cpu=1, gpu=0))  # one CPU is in use by the running job
    await admin.execute("UPDATE folds SET row = row || '{\"cpuUsed\": -50}' WHERE fold = 'quota'")
    yard.ledger._writer._remembered.forget()  # as after a lost connection, or when another process wrote
    with pytest.raises(Invalid):
        await yard.do(cmd.SetQuota(project=PROJECT, cpu=-1, gpu=0))  # refused, but its row is remembered
    assert wrong(await rebuild.rebuild(admin, [], unsaid)) == {"quota": [PROJECT]}
    with pytest.raises(QuotaExceeded):
        await yard.submit()
    await yard.do(cmd.SetQuota(project=PROJECT, cpu=2, gpu=0))
    assert wrong(await rebuild.verify(admin, [], unsaid)) == {}
    assert (await yard.ledger.quota(PROJECT)).cpu_used == 1


async def test_after_an_error_the_connection_can_rebuild_again(
    admin: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(row: object, event: object) -> object:
        raise ValueError("a bug in a fold")

    with monkeypatch.context() as patch:
        patch.setitem(
            FOLDS, "quota", type(FOLDS["quota"])("quota", FOLDS["quota"].row, FOLDS["quota"].key, broken)
        )
        with pytest.raises(ValueError, match="a bug in a fold"):
            await rebuild.rebuild(admin, [], unsaid)
    assert wrong(await rebuild.rebuild(admin, [], unsaid)) == {}


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ('{"exitCode": null, "gpus": [], "deleted": false}', False),
        ('{"exitCode": 3}', True),
        ('{"x": null}', True),
    ],
)
async def test_rows_from_before_defaults_were_left_out_are_no_difference(
    admin: asyncpg.Connection, yard: Yard, change: str, differs: bool
) -> None:
    key = await admin.fetchval("SELECT min(key) FROM folds WHERE fold = 'status' AND NOT row ? 'exitCode'")
    await admin.execute(
        "UPDATE folds SET row = $2::jsonb || row WHERE fold = 'status' AND key = $1", key, change
    )
    assert wrong(await rebuild.verify(admin, ["status"], unsaid)) == ({"status": [key]} if differs else {})


async def test_rows_of_a_version_without_volumes_are_mended_by_its_migration(
    admin: asyncpg.Connection, yard: Yard
) -> None:
    await admin.execute("UPDATE folds SET row = row - 'volumes' WHERE fold = 'projects'")
    assert wrong(await rebuild.verify(admin, [], unsaid)) == {"projects": [PROJECT]}
    (mending,) = [each for each in migrations() if each.name.endswith("volumes")]
    await admin.execute(mending.text)
    assert wrong(await rebuild.verify(admin, [], unsaid)) == {}


async def test_a_row_of_before_with_more_than_is_kept_is_no_difference(
    admin: asyncpg.Connection, yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An earlier program kept every visit; the next event takes away what is too much."""
    job = await yard.submit()
    await yard.run(job)
    for module in (evolve, status):
        monkeypatch.setattr(module, "VISITS_KEPT", 4)
    assert len((await yard.ledger.job(job)).history) == 6
    assert wrong(await rebuild.verify(admin, ["status"], unsaid)) == {}
    newest = "UPDATE folds SET row = jsonb_set(row, '{history,5,run}', $2) WHERE fold = 'status' AND key = $1"
    await admin.execute(newest, str(job), "2")
    assert wrong(await rebuild.verify(admin, ["status"], unsaid)) == {"status": [str(job)]}
    await admin.execute(newest, str(job), "1")
    await yard.do(jobs.start(job=job))
    assert [visit.state for visit in (await yard.ledger.job(job)).history] == [
        *(State.RUNNING, State.FINALIZING, State.DONE, State.QUEUED)
    ]
    assert wrong(await rebuild.verify(admin, ["status"], unsaid)) == {}

"""From every released schema to this one: nothing is lost, everything is read, and work goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import asyncpg
import pytest

from service.domain.job import Job
from service.domain.states import State
from service.errors import JobyardError
from service.ledger import rebuild, verify
from service.ledger.ledger import Ledger
from service.ledger.migrate import migrate
from service.supervisor import guard
from service.supervisor.engine.protocol import ContainerSpec
from service.supervisor.names import RunId, run_labels
from sql import Migration, migrations
from tests.conftest import MASTER
from tests.images import BUSYBOX
from tests.ledger import schemas
from tests.ledger.schemas.fill import SECRET
from tests.supervisor.world import World, settings_of
from tests.support import databases, jobs
from tests.support.engine.fake import FakeEngine
from tests.support.waiting import until

VERSIONS = [migration.version for migration in migrations()]

#: How each job stood when the program of then stopped.
THEN = {
    "done": State.DONE,
    "failed": State.FAILED,
    "interrupted": State.INTERRUPTED,
    "repeated": State.DONE,
    "deleted": State.DONE,
    "queued": State.QUEUED,
    "initializing": State.INITIALIZING,
    "running": State.RUNNING,
}


@pytest.fixture(params=VERSIONS)
async def old(request: pytest.FixtureRequest) -> AsyncIterator[tuple[int, str]]:
    """A version, and the URL of a database at it, with data of that time."""
    async with databases.a_database() as url:
        await schemas.made(url, request.param)
        yield request.param, url


@pytest.fixture
async def database() -> AsyncIterator[str]:
    async with databases.a_database() as url:
        yield url


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url, server_settings={"search_path": "jobyard"})
    try:
        yield connection
    finally:
        await connection.close()


def test_every_schema_before_the_newest_has_data_of_its_time() -> None:
    """Before a migration is added, `fill` has to be run with the one before it as the newest."""
    assert [each for each in VERSIONS[:-1] if each not in (*schemas.FILLED, *schemas.PASSED)] == []


async def test_a_database_of_that_time_is_whole_at_this_schema(old: tuple[int, str], tmp_path: Path) -> None:
    await upgraded(*old, tmp_path)


def _unguarded(table: str, statement: str) -> str:
    """What the table's triggers refuse."""
    return f"ALTER TABLE {table} DISABLE TRIGGER USER; {statement}; ALTER TABLE {table} ENABLE TRIGGER USER"


#: Migrations that do harm, and how it is told.
_HARMFUL = {
    "an event is changed": (
        _unguarded("events", "UPDATE events SET actor = 'nobody' WHERE position = 9"),
        "events is not what it was",
    ),
    "an event is lost": (
        _unguarded("events", "DELETE FROM events WHERE position = (SELECT max(position) FROM events)"),
        "events is not what it was",
    ),
    "what was carried out is forgotten": (
        _unguarded("commands", "DELETE FROM commands"),
        "commands is not what it was",
    ),
    "an epoch begins anew": ("UPDATE leases SET epoch = 0", "leases is not what it was"),
    "keys are lost": ("DELETE FROM job_keys; DELETE FROM project_keys", "key"),
}


@pytest.mark.parametrize("harm", _HARMFUL)
async def test_a_migration_that_does_harm_is_found_out(
    harm: str, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted bug is the newest migration."""
    statement, told = _HARMFUL[harm]
    version = schemas.FILLED[-1]
    await schemas.made(database, version)
    planted = Migration(VERSIONS[-1] + 1, "harm", statement, "")
    monkeypatch.setattr("service.ledger.migrate.migrations", lambda: [*migrations(), planted])
    monkeypatch.setattr(f"{__name__}.VERSIONS", [*VERSIONS, planted.version])
    with pytest.raises((AssertionError, JobyardError), match=told):
        await upgraded(version, database, tmp_path)


async def upgraded(version: int, url: str, folder: Path) -> None:
    """Migrate it to this schema. Raises when anything was lost or changed, or cannot be gone on with."""
    async with connected(url) as connection:
        before = await kept(connection)
        head = await connection.fetchval("SELECT hash FROM ledger_head")
    assert await migrate(url) == [each for each in VERSIONS if each > version]
    async with connected(url) as connection:
        after = await kept(connection)
        for table, rows in before.items():
            same = [{name: now[name] for name in was} for was, now in zip(rows, after[table], strict=False)]
            assert len(after[table]) == len(rows) and same == rows, f"{table} is not what it was"
        assert await connection.fetchval("SELECT hash FROM ledger_head") == head
    await whole(url)
    async with Ledger.open(url, MASTER) as ledger:
        await as_it_was(ledger)
        await taken_over(url, ledger, folder)
    await whole(url)


async def kept(connection: asyncpg.Connection) -> dict[str, list[dict[str, Any]]]:
    """What no rebuild could bring back, table by table. Keys are looked at by opening what they seal."""
    return {
        table: [dict(row) for row in await connection.fetch(f"SELECT * FROM {table} ORDER BY {key}")]
        for table, key in (("events", "position"), ("commands", "id"), ("leases", "engine"))
    }


async def whole(url: str) -> None:
    """The chain holds, and every read model is what the events say."""
    async with connected(url) as connection:
        assert (await verify.verify(connection)).events >= schemas.EVENTS
        compared = await rebuild.verify(connection, [], lambda _: None)
        assert [found.fold for found in compared if found.differences] == []


async def as_it_was(ledger: Ledger) -> None:
    """Everything that was written then is read as it was then."""
    known = await by_name(ledger)
    assert {name: job.state for name, job in known.items()} == THEN
    assert [name for name, job in known.items() if job.deleted] == ["deleted"]
    assert {await ledger.open_secret(job.spec.env[0].value) for job in known.values()} == {SECRET}
    lines = {name: await ledger.runs(job.id) for name, job in known.items()}
    minutes = {name: [line.minutes for line in found] for name, found in lines.items()}
    over = {name: found for name, found in minutes.items() if found and found[0]}
    assert over == {"done": [1], "failed": [1], "interrupted": [1], "repeated": [1, 1], "deleted": [1]}
    assert (await ledger.quota(jobs.PROJECT)).used("cpu") == 3
    project = await ledger.project(jobs.PROJECT)
    assert project is not None
    assert list(project.data_stores) == ["data"]
    assert [token.name for token in await ledger.tokens(jobs.PROJECT)] == ["ci"]


async def taken_over(url: str, ledger: Ledger, folder: Path) -> None:
    """What ran then ends under the supervisor of this version. The container went on, and ends after 90 s."""
    running = (await by_name(ledger))["running"]
    assert running.started_at is not None
    engine = await engine_of_then(ledger, running, running.started_at)
    world = World(url, ledger, settings_of(folder), engine)
    # All these databases are of one ledger, and each has an engine of its own: the host's lock cannot know.
    with patch.object(guard, "_lock_dir", lambda: folder):
        async with world.supervised():
            await world.when(running.id, lambda _, event: event.type == "RunAdopted", "adopted")
            await engine.exit(name_then(RunId(running.id, 1)))
            ended = await world.end(running.id)
    states = ("QUEUED", "INITIALIZING", "PENDING", "RUNNING", "FINALIZING", "DONE")
    assert tuple(visit.state for visit in ended.history) == states
    (line,) = await ledger.runs(running.id)
    assert (line.run, line.minutes, line.credited) == (1, 2, False)
    made = [name for call, name in engine.calls if call == "create" and str(running.id) in name]
    assert made == [name_then(RunId(running.id, 1))], "no second one under the name of today"


async def by_name(ledger: Ledger) -> dict[str, Job]:
    submitted = [event.job for event in await ledger.events(0) if event.type == "JobSubmitted"]
    return {job.spec.name: job for job in await ledger.jobs_of([job for job in submitted if job])}


def name_then(run: RunId) -> str:
    """As versions before 2026-11-29 called a container: without the ledger."""
    return f"job-{run.job}-{run.run}"


async def engine_of_then(ledger: Ledger, job: Job, started_at: datetime) -> FakeEngine:
    """The engine that the job's container still runs on."""
    now = started_at
    engine = FakeEngine(lambda: now)
    engine._info = replace(engine._info, id=jobs.ENGINE)
    engine.add_image(BUSYBOX)
    run = RunId(job.id, 1)
    labels = run_labels((await ledger.head()).ledger_id, run)
    made = await engine.create(ContainerSpec(name=name_then(run), image=BUSYBOX, labels=labels))
    await engine.start(made)
    now = started_at + timedelta(seconds=90)
    engine._clock = lambda: now
    return engine


async def test_two_programs_migrate_an_old_database_at_once(database: str) -> None:
    await schemas.made(database, 5)
    applied = await asyncio.gather(migrate(database), migrate(database))
    assert sorted(version for each in applied for version in each) == [each for each in VERSIONS if each > 5]
    await whole(database)


async def test_a_program_that_is_killed_while_it_migrates_leaves_a_whole_schema(database: str) -> None:
    """It waits in the middle of migration 9 for a table that somebody reads; nothing of that one stays."""
    await schemas.made(database, 7)
    async with connected(database) as reader, connected(database) as other:
        async with reader.transaction():
            await reader.fetch("SELECT count(*) FROM events")
            program = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", _MIGRATES, database),
                env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
                stdout=asyncio.subprocess.DEVNULL,
            )
            try:
                await until(lambda: other.fetchval(_WAITS), 60, what="the program waits for the table")
            finally:
                program.send_signal(signal.SIGKILL)
                await program.wait()
        await until(lambda: other.fetchval(_ALONE), 60, what="what the killed program had begun is over")
        assert await schemas.applied(other) == [each for each in VERSIONS if each <= 8]
        columns = await other.fetch("SELECT * FROM information_schema.columns WHERE table_name = 'events'")
        assert "client_address" not in {column["column_name"] for column in columns}
    assert await migrate(database) == [each for each in VERSIONS if each > 8]
    await whole(database)
    async with Ledger.open(database, MASTER) as ledger:
        await as_it_was(ledger)


_MIGRATES = (
    "import asyncio, sys; from service.ledger.migrate import migrate; asyncio.run(migrate(sys.argv[1]))"
)
_OTHERS = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'jobyard'"
_WAITS = f"SELECT EXISTS (SELECT {_OTHERS} AND wait_event_type = 'Lock' AND query LIKE '%client_address%')"
_ALONE = f"SELECT NOT EXISTS (SELECT {_OTHERS})"

"""Fill a database as a program of some version does, and write what it holds to a file.

    PYTHONPATH=<tree of that version> python tests/ledger/schemas/fill.py <URL of an empty database> <file>

This is run by hand once for each new migration, before the next one is made, with the code of that day; the
files it made are kept beside it. So it may only use what every version has: the ledger, and the yard of the
tests of that version. The server's `pg_dump` has to be found on the PATH.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

from service.domain import commands as cmd
from service.domain.events import Info, VolumeProgress
from service.domain.spec import EnvVar
from service.domain.states import State
from service.ledger.ledger import Ledger
from service.ledger.migrate import migrate
from service.vault import MasterKey
from tests.support import jobs
from tests.support.yard import Yard

MASTER = MasterKey(b"m" * 32)
SECRET = "of that time"
TIMEOUT_S = 7 * 86_400


async def fill(url: str) -> None:
    """Jobs in every kind of state, runs that were repeated, secrets, a token, a store, a lease."""
    await migrate(url)
    async with Ledger.open(url, MASTER) as ledger:
        yard = Yard(ledger)
        await yard.open()
        await yard.do(cmd.StartSupervisor(engine=jobs.ENGINE, epoch=yard.epoch, node=jobs.NODE))
        role, value = "ai_training_operator", "ab" * 32
        await yard.do(
            cmd.CreateToken(project=jobs.PROJECT, token_id="t1", name="ci", role=role, sha256=value)
        )
        key = await ledger.keys.of(jobs.PROJECT)
        await yard.do(
            cmd.SetDataStore(project=jobs.PROJECT, **_store(key.seal("access"), key.seal("secret")))
        )
        made = {name: await _submitted(yard, name) for name in ("done", "failed", "interrupted", "repeated")}
        await yard.run(made["done"])
        await _ended(yard, made["failed"], 3)
        await yard.run(made["interrupted"], upto=State.RUNNING)
        await yard.do(cmd.KillJob(project=jobs.PROJECT, job=made["interrupted"]))
        await _over(yard, made["interrupted"], 143)
        await yard.run(made["repeated"])
        await yard.do(cmd.StartJob(project=jobs.PROJECT, job=made["repeated"]))
        await yard.run(made["repeated"], run=2)
        gone = await _submitted(yard, "deleted")
        await yard.run(gone)
        await yard.do(cmd.DeleteJob(project=jobs.PROJECT, job=gone))
        await _submitted(yard, "queued")
        await yard.run(await _submitted(yard, "initializing"), upto=State.INITIALIZING)
        running = await _submitted(yard, "running")
        await yard.run(running, upto=State.INITIALIZING)
        await yard.do(_sync(yard, running))
        for command in (
            jobs.prepared(**yard.of(running)),
            jobs.started(await ledger.now(), **yard.of(running)),
        ):
            await yard.do(command)
        await yard.do(cmd.NoteRun(**yard.of(running), info=Info("waits", "A word.", {"n": 1})))
        async with ledger.pool.acquire() as connection:
            await connection.execute("UPDATE leases SET expires_at = renewed_at")  # it stopped in order


def _store(access: Any, secret: Any) -> dict[str, Any]:
    place = {"alias": "data", "endpoint": "https://s3.example", "region": "gra"}
    return place | {"access_key": access, "secret_key": secret}


async def _submitted(yard: Yard, name: str) -> UUID:
    key = await yard.ledger.keys.of(jobs.PROJECT)
    env = (EnvVar("KEY", key.seal(SECRET)),)
    return await yard.submit(name=name, env=env, labels={"name": name}, timeout=TIMEOUT_S)


def _sync(yard: Yard, job: UUID) -> Any:
    progress = (VolumeProgress(volume=0, state="DONE"),)
    return cmd.ReportDataSync(**yard.of(job), sync_id="s1", direction="pull", state="DONE", volumes=progress)


async def _ended(yard: Yard, job: UUID, code: int) -> None:
    await yard.run(job, upto=State.RUNNING)
    await _over(yard, job, code)


async def _over(yard: Yard, job: UUID, code: int) -> None:
    now = await yard.ledger.now()
    await yard.do(jobs.exited(now, code, **yard.of(job)))
    await yard.do(jobs.finalize(**yard.of(job)))


def dumped(url: str) -> str:
    """Every row but those of the migrations, as statements that any driver can carry out."""
    command = ("pg_dump", "--data-only", "--inserts", "--load-via-partition-root", "--no-owner")
    left_out = ("--exclude-table=*.schema_migrations",)
    text = subprocess.run([*command, *left_out, url], check=True, capture_output=True, text=True).stdout
    no_rows = ("--", "SET ", "SELECT ", "\\")
    lines = [line for line in text.splitlines() if line and not line.startswith(no_rows)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    asyncio.run(fill(sys.argv[1]))
    Path(sys.argv[2]).write_text(dumped(sys.argv[1]))

"""`jobyard events`: the real command against a real API process that is killed under it."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from service.api.auth import new_value, sha256_of
from service.domain import commands as cmd
from service.ledger.ledger import Ledger
from tests.api.process import Service, serving
from tests.support import jobs
from tests.support.jobs import PROJECT
from tests.support.yard import Yard

DEADLINE_S = 120.0


@pytest.fixture
async def history(ledger: Ledger) -> Yard:
    made = Yard(ledger)
    await made.open()
    return made


@pytest.fixture
async def service(history: Yard, database_url: str, tmp_path: Path) -> AsyncIterator[Service]:
    async with serving(database_url, tmp_path) as started:
        yield started


@pytest.fixture
async def token(history: Yard) -> str:
    return await made(history.ledger, "mine")


async def made(ledger: Ledger, token_id: str) -> str:
    value = new_value()
    fields = {"project": PROJECT, "name": token_id, "role": "ai_training_read"}
    await ledger.submit(cmd.CreateToken(token_id=token_id, sha256=sha256_of(value), **fields), actor="test")
    return value


@asynccontextmanager
async def command(service: Service, token: str, *words: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "service", "events", "--url", service.url, "--token", token, *words),
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        async with asyncio.timeout(DEADLINE_S):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def lines(process: Process, count: int) -> list[dict[str, Any]]:
    assert process.stdout is not None
    return [json.loads(await process.stdout.readline()) for _ in range(count)]


async def relabel(history: Yard, job: UUID, value: str) -> None:
    await history.do(jobs.label("stage", value, job=job))


async def test_following_survives_the_service_and_ends_with_its_token(
    history: Yard, service: Service, token: str
) -> None:
    job = await history.submit()
    await relabel(history, job, "a")
    async with command(
        service, token, "--follow", "--after", "0", "--job", str(job), "-o", "json"
    ) as process:
        found = await lines(process, 2)
        await service.kill()
        await relabel(history, job, "b")
        await service.start()
        found += await lines(process, 1)
        await relabel(history, job, "c")
        found += await lines(process, 1)
        await service.kill()  # nothing but the event itself has told where it was
        await relabel(history, job, "d")
        await service.start()
        found += await lines(process, 1)
        await history.do(cmd.RevokeToken(project=PROJECT, token_id="mine"))
        out, err = await process.communicate()
    assert (process.returncode, out) == (4, b""), err
    assert [each["data"].get("value") for each in found] == [None, *"abcd"]
    assert [each["type"] for each in found] == ["jobyard.JobSubmitted"] + ["jobyard.LabelSet"] * 4
    told = err.decode().splitlines()
    assert any(f"going on after position {found[1]['id']}" in line for line in told)
    assert told[-1] == "jobyard: the token was revoked or renewed; the stream has ended"


async def test_what_there_is_for_people_and_ctrl_c(history: Yard, service: Service, token: str) -> None:
    job = await history.submit(labels={"stage": "test"})
    await history.run(job)
    await relabel(history, job, "prod")
    async with command(service, token, "-l", "stage=test", "-s", "running", "-s", "DONE") as process:
        out, err = await process.communicate()
    assert process.returncode == 0, err
    shown = [line.split()[2:] for line in out.decode().splitlines()]
    assert shown == [
        ["7", "RunStarted", str(job), "RUNNING", "test"],
        ["9", "RunFinalized", str(job), "DONE", "The", "job", "ended", "normally.", "test"],
    ]
    async with command(service, token, "--follow", "--type", "LabelSet", "--after", "9") as process:
        assert process.stdout is not None
        assert (await process.stdout.readline()).decode().split()[3:] == [
            *("LabelSet", str(job), "stage=prod", "test")
        ]
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    assert (process.returncode, out, err) == (130, b"", b"")


async def test_what_is_refused_is_told_and_nothing_is_shown(service: Service, token: str) -> None:
    for words, code, said in (
        (["--follow", "--after", "99999"], 2, "after: 99999 is not allowed; the ledger ends at"),
        (["--after", "soon"], 2, "after: 'soon' is not allowed; a position"),
        (["--follow", "--type", "RunStrated"], 2, "did you mean RunStarted?"),
        (["--job", str(uuid4())], 0, ""),
    ):
        async with command(service, token, *words) as process:
            out, err = await process.communicate()
        assert (process.returncode, out) == (code, b""), err
        assert said in err.decode()

"""Waiting until everything has settled without hands, and hearing all witnesses then."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, STDOUT
from contextlib import AbstractAsyncContextManager

import asyncpg

from service.domain.events import Event, JobSubmitted
from service.ledger import read, rebuild
from service.ledger.ledger import Ledger
from service.vault import master_key
from tests.acceptance import running
from tests.chaos.kills.clients import Load, container_of
from tests.chaos.kills.house import House
from tests.chaos.kills.oracle import Evidence, RunOf
from tests.support.waiting import until

SETTLE_S = 120.0


async def settled(load: Load) -> None:
    """Return when nothing is left to do; what stays for too long is for the oracle to tell."""
    house = load.house

    async def nothing_left() -> bool:
        return not (await house.containers() or house.folders() or house.shims())

    async with _ledger(house) as ledger:

        async def is_shown() -> bool:
            async with ledger.pool.acquire() as connection:
                last = await connection.fetchval("SELECT max(position) FROM events WHERE project = 'default'")
            return bool(load.frames and load.frames[-1] >= last)

        for condition in (nothing_left, is_shown):
            try:
                await until(condition, SETTLE_S)
            except AssertionError as error:
                load.faults.append(f"not settled: {error}")


async def _events(ledger: Ledger) -> list[Event]:
    return [event async for page in read.through(ledger.pool) for event in page]


async def evidence(load: Load) -> Evidence:
    """All that there is to know, once the load is over."""
    house = load.house
    await settled(load)
    house.say("all is settled")
    answers = load.journal.answers()
    jobs = [answer.job for answer in answers if answer.what == "submit"]
    async with _ledger(house) as ledger:
        events = await _events(ledger)
        known = {event.job for event in events if event.job is not None}
        bills = [bill for job in known for bill in await ledger.runs(job)]
        quota = await ledger.quota("default")
        head = (await ledger.head()).position
    wrong = await _verified(load)
    states = await _states(load, jobs)
    await _read_logs(load, events, states)
    billed = await _bill(load)
    left = {
        "containers": await house.containers(),
        "networks": await house.networks(),
        "volumes": await house.volumes(),
    }
    # Of all that was asked: the last questions are answered like any others.
    seen = [*load.faults, *house.faults, *wrong]
    return Evidence(
        answers=answers,
        events=events,
        bills=bills,
        billed=billed,
        states=states,
        starts=dict(load.starts),
        begun=dict(load.begun.of),
        objects=_objects(house, events),
        frames=list(load.frames),
        head=head,
        outages=list(house.outages),
        **left,
        folders=house.folders(),
        shims=house.shims(),
        quota_used=quota.cpu_used,
        seen=seen,
    )


def _ledger(house: House) -> AbstractAsyncContextManager[Ledger]:
    return Ledger.open(house.database_url, master_key(None, house.state / "master.key"), readers=2)


async def _states(load: Load, jobs: list[str]) -> dict[str, str]:
    found = {}
    for job in jobs:
        status, answer = await load.call("GET", f"/v1/job/{job}")
        if status == 200:
            found[job] = answer["status"]["state"]
    return found


async def _read_logs(load: Load, events: list[Event], states: dict[str, str]) -> None:
    """Once more, now that all containers were put away: a second one would have put its start in there."""
    runs = {(str(event.job), event.run) for event in events if event.job is not None and event.run}
    for job, run in sorted(runs):
        if job in states:
            await load.read_log(job, run)


async def _bill(load: Load) -> list[RunOf]:
    status, answer = await load.call("GET", "/v1/billing")
    assert status == 200, answer
    return [RunOf(line["job"], line["run"]) for line in answer["items"]]


def _objects(house: House, events: list[Event]) -> dict[str, set[str]]:
    """The marks of starts as they lie in the object store's folder."""
    found = {}
    for event in events:
        if isinstance(event.body, JobSubmitted) and event.body.spec.volumes:
            folder = house.root / "s3" / container_of(event.body.spec.name)
            found[str(event.job)] = {each.name for each in folder.glob("started-*")}
    return found


async def _public_key(load: Load) -> str:
    status, answer = await load.call("GET", "/v1/audit/key")
    assert status == 200, answer
    return str(answer["key"])


async def _verified(load: Load) -> list[str]:
    """`jobyard audit verify`, with the checkpoints, and every read model against its events."""
    house = load.house
    against = ("--against", str(house.state / "checkpoints"), "--key", await _public_key(load))
    code, said = await _command(house, "audit", "verify", *against)
    wrong = [] if code == 0 else [f"audit verify: {code} {said[-500:]}"]
    connection = await asyncpg.connect(house.database_url, server_settings={"search_path": "jobyard"})
    try:
        compared = await rebuild.verify(connection, [], lambda _: None)
    finally:
        await connection.close()
    differ = [each for each in compared if each.differences]
    return wrong + [f"read model {each.fold} differs: {each.differences}" for each in differ]


async def _command(house: House, *words: str) -> tuple[int, str]:
    environ = running.environment(house.state, DATABASE_URL=house.database_url)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "service", *words, env=environ, stdout=PIPE, stderr=STDOUT
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()

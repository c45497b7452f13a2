"""What must hold when a story is over: the same end, the same bill, one container, nothing left."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import aiohttp
import asyncpg

from service.domain.events import Event, Move, RunAdopted
from service.errors import LedgerCorrupt
from service.ledger import rebuild, verify
from service.supervisor.names import LEDGER
from tests.acceptance.crashing import Witness
from tests.chaos.points.ground import Ground
from tests.chaos.points.points import without_ids
from tests.chaos.points.story import Story
from tests.images import docker_socket
from tests.supervisor.bills import bill

AWAY = timedelta(minutes=10)
#: Longer than its lease: what a machine that others use too may take for a start or an end.
_CLEARLY_S = 3.0
#: Where the time of a run is paid for, by what is done for it.
_LOOKED_AFTER = ("INITIALIZING", "PENDING", "RUNNING", "INTERRUPTING", "TIMEOUT")
#: What may be there once more after a crash: that somebody came back, and how far a synchronisation is.
_AGAIN = frozenset({"RunAdopted", "DataSyncMoved", "SupervisorStarted", "ExecOpened", "RunNoted"})


class Seen(NamedTuple):
    """What is compared: of the story without a crash, and of each with one."""

    states: tuple[str, ...]
    events: dict[str, int]
    lines: tuple[tuple[int, int | None, str, bool], ...]
    files: tuple[str, ...]
    rows: dict[str, int]


async def seen(ground: Ground, job: UUID) -> Seen:
    events = await ground.world.events(job)
    known = await ground.world.ledger.job(job)
    runs = await ground.world.ledger.runs(job)
    return Seen(
        tuple(f"{visit.state} in run {visit.run}" for visit in known.history),
        dict(Counter(event.type for event in events if event.type not in _AGAIN)),
        tuple((line.run, line.minutes, str(line.amount), line.credited) for line in runs),
        tuple(files(ground.world.settings.state_dir)),
        await _rows(ground),
    )


def files(state: Path) -> list[str]:
    """What lies in the state directory, without ids. What is left of a half-made thing would be here."""
    return sorted({without_ids(str(path.relative_to(state))) for path in state.rglob("*")})


async def _rows(ground: Ground) -> dict[str, int]:
    """How many jobs and keys there are, and leases that are held."""
    ledger = ground.world.ledger
    held = [lease for lease in await ledger.leases() if lease.held]
    _, jobs = await ledger.jobs("default", limit=10)
    return {"jobs": jobs, "leases held": len(held)}


async def problems(ground: Ground, story: Story, job: UUID, expected: Seen, witness: Witness) -> list[str]:
    """Everything that is not as it would have been without the crash."""
    found = await seen(ground, job)
    wrong = [
        f"{name}: {got} instead of {wanted}"
        for name, got, wanted in zip(Seen._fields, found, expected, strict=True)
        if got != wanted
    ]
    runs = len(expected.lines)
    made, started = (len(found.get(str(job), ())) for found in (witness.created, witness.started))
    if made != runs:
        wrong.append(f"{made} containers were made for {runs} run")
    if started != runs:
        wrong.append(f"{started} starts for {runs} run")
    wrong += await _left(ground)
    held = await ground.bucket.holds()
    if held != story.leaves:
        wrong.append(f"the store holds {held}")
    events = await ground.world.events(job)
    wrong += _untold_absence(ground, events) + _paid_for_absence(events)
    wrong += await _broken(ground.world.url)
    return wrong


async def _left(ground: Ground) -> list[str]:
    """Containers of the ledger, and networks besides the one of its project."""
    ledger_id = str((await ground.world.ledger.head()).ledger_id)
    filters = json.dumps({"label": [f"{LEDGER}={ledger_id}"]})
    connector = aiohttp.UnixConnector(path=docker_socket())
    async with aiohttp.ClientSession("http://docker", connector=connector) as http:
        async with http.get("/containers/json", params={"all": "1", "filters": filters}) as response:
            containers = len(await response.json())
        async with http.get("/networks", params={"filters": filters}) as response:
            networks = len(await response.json())
    wrong = [f"{containers} containers are left"] if containers else []
    return wrong + ([f"there are {networks} networks of one project"] if networks != 1 else [])


def _untold_absence(ground: Ground, events: list[Event]) -> list[str]:
    """A run that had its place when the service was ended, and still had it when it came back after longer
    than its lease, was told of all that time."""
    if ground.away is None:
        return []
    since, back = ground.away
    moves = [event for event in events if isinstance(event.body, Move)]
    before = [str(event.body.target) for event in moves if event.recorded_at < since]
    short = (back - since).total_seconds() < ground.world.settings.lease_ttl_s + _CLEARLY_S
    if short or not before or before[-1] not in _LOOKED_AFTER:
        return []
    told = [event for event in events if isinstance(event.body, RunAdopted) and event.occurred_at >= back]
    if any(event.body.absent_since <= since for event in told):
        return []
    return [f"nobody looked after it from {since} to {back}, and its run was not told"]


def _paid_for_absence(events: list[Event]) -> list[str]:
    """A longer absence would have cost nothing more, unless the container ran meanwhile."""
    adopted = [event for event in events if event.type == "RunAdopted"]
    if not adopted:
        return []
    started = next((event.occurred_at for event in events if event.type == "RunStarted"), None)
    exited = next((event.occurred_at for event in events if event.type == "RunExited"), None)
    since, back = adopted[0].body.absent_since, adopted[0].occurred_at
    if started is not None and exited is not None and since < exited and started < back:
        return []
    with_it, without = bill(events, away=AWAY), bill(events)
    if (with_it.minutes, with_it.amount) == (without.minutes, without.amount):
        return []
    return [f"an absence costs: {with_it.minutes} minutes instead of {without.minutes}"]


async def _broken(url: str) -> list[str]:
    """The chain, and the read models against the events."""
    connection = await asyncpg.connect(url, server_settings={"search_path": "jobyard"})
    try:
        await verify.verify(connection)
        compared = await rebuild.verify(connection, [], lambda _: None)
    except LedgerCorrupt as error:
        return [error.message]
    finally:
        await connection.close()
    return [f"fold {found.fold} differs" for found in compared if found.differences]

"""Many clients, and a service that is killed again and again: nothing is lost, nothing comes twice.

With `--chaos` it is killed ten times over 50,000 events.
"""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import Iterator
from datetime import datetime
from itertools import islice, pairwise
from pathlib import Path
from random import Random
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import msgspec

from service.api.auth import new_value, sha256_of
from service.domain import commands as cmd
from service.domain.events import Info
from service.ledger.ledger import Ledger
from tests.api import crowd
from tests.api.process import serving
from tests.support import jobs
from tests.support.chaos import Chaos
from tests.support.jobs import PROJECT
from tests.support.waiting import until
from tests.support.yard import Yard

CLIENTS = 200
OTHER = "other"
STAGES = ("prod", "test", "dev")
TYPES = ("RunStarted", "LabelSet", "RunPlaced", "JobSubmitted", "RunFinalized", "RunPrepared")
STATES = ("RUNNING", "DONE", "FINALIZING")
DEADLINE_S = 500.0


class Row(NamedTuple):
    """An event as a plain SELECT gives it, with the labels that its job had then."""

    position: int
    project: str | None
    job: str | None
    type: str
    target: str | None
    labels: dict[str, str]


class Wish(NamedTuple):
    """A client's filter. `jobs`: any of them; `barred`: its token sees no jobs in that stage."""

    project: str
    jobs: tuple[str, ...] = ()
    type: str | None = None
    state: str | None = None
    stage: str | None = None
    barred: str | None = None

    @property
    def query(self) -> str:
        named = [("job", job) for job in self.jobs]
        named += [("type", self.type or ""), ("state", self.state or "")]
        named.append(("labelSelector", f"stage={self.stage}" if self.stage else ""))
        return "".join(f"&{name}={value}" for name, value in named if value)

    @property
    def selector(self) -> str | None:
        return None if self.barred is None else f"stage!={self.barred}"

    def wants(self, row: Row) -> bool:
        """In plain words, and without the service's own filters."""
        of_job = row.job is not None or (self.stage is None and self.barred is None)
        return (
            row.project == self.project
            and not row.type.startswith("Token")
            and (not self.jobs or row.job in self.jobs)
            and self.type in (None, row.type)
            and self.state in (None, row.target)
            and self.stage in (None, row.labels.get("stage"))
            and (self.barred is None or row.labels.get("stage") != self.barred)
            and of_job
        )


class Author:
    """Writes a history of two projects: jobs that run, are noted and relabelled."""

    def __init__(self, yard: Yard) -> None:
        self._yard = yard
        self._chance = Random(11)
        self.standing: dict[str, list[UUID]] = {PROJECT: [], OTHER: []}

    async def open(self) -> None:
        await self._yard.open(cpu=5000)
        await self._yard.do(cmd.CreateProject(project=OTHER, name="Other", cpu=5000, gpu=0))
        for project, made in self.standing.items():
            for number in range(50):
                made.append(uuid4())
                stage = STAGES[number % 3]
                await self._yard.do(jobs.submit(made[-1], project, labels={"stage": stage}))

    async def write(self, upto: int) -> None:
        """Until the ledger has so many events. Many commands at once: each commit takes all that wait."""
        now = await self._yard.ledger.now()
        while await self.position() < upto:
            commands = [command for _ in range(600) for command in self._something(now)]
            await asyncio.gather(*map(self._yard.do, commands))

    async def position(self) -> int:
        return (await self._yard.ledger.head()).position

    def _something(self, now: datetime) -> Iterator[cmd.Command]:
        chance = self._chance
        project = chance.choice((PROJECT, PROJECT, OTHER))
        job = chance.choice(self.standing[project])
        match chance.randrange(10):
            case 0:
                yield from self._whole_run(project, now)
            case 1 | 2:
                yield cmd.SetLabel(project=project, job=job, name="stage", value=chance.choice(STAGES))
            case _:
                info = Info("waiting", f"There is no room yet: {chance.random()}.")
                yield cmd.NoteRun(**jobs.of_run(job, 1, project, self._yard.epoch), info=info)

    def _whole_run(self, project: str, now: datetime) -> Iterator[cmd.Command]:
        job = uuid4()
        of = jobs.of_run(job, 1, project, self._yard.epoch)
        yield jobs.submit(job, project, labels={"stage": self._chance.choice(STAGES)})
        yield cmd.PlaceRun(**of, node="node-1")
        yield jobs.prepared(**of)
        yield jobs.started(now, **of)
        yield jobs.exited(now, **of)
        yield jobs.finalize(**of)


def wishes(standing: dict[str, list[UUID]]) -> list[Wish]:
    """Two hundred filters; only those that want everything are alike."""
    found = [Wish(project) for project in (PROJECT, OTHER) for _ in range(2)]
    for project, made in standing.items():
        found += [Wish(project, (str(job),)) for job in made]
        found += [Wish(project, type=name) for name in TYPES]
        for state in STATES:
            found.append(Wish(project, state=state))
            found += [Wish(project, state=state, stage=stage) for stage in STAGES]
            found += [Wish(project, state=state, barred=stage) for stage in STAGES]
    found.append(Wish(PROJECT, type="LabelSet", stage="dev", barred="prod"))
    found.append(Wish(OTHER, type="PricesSet"))
    pairs = pairwise(map(str, standing[PROJECT]))
    found += [Wish(PROJECT, pair) for pair in islice(pairs, CLIENTS - len(found))]
    assert len(found) == CLIENTS
    return found


async def rows(ledger: Ledger) -> list[Row]:
    """The whole ledger by one SELECT; labels are put together on the way."""
    statement = "SELECT position, project, job::text, type, data FROM events ORDER BY position"
    labels: dict[str, dict[str, str]] = {}
    found = []
    for position, project, job, kind, data in await ledger.pool.fetch(statement):
        body: dict[str, Any] = json.loads(data)
        if kind == "JobSubmitted":
            labels[job] = body["spec"]["labels"]
        elif kind == "LabelSet":
            labels[job] = {**labels[job], body["name"]: body["value"]}
        found.append(Row(position, project, job, kind, body.get("target"), labels.get(job, {})))
    return found


async def token(ledger: Ledger, project: str, selector: str | None) -> str:
    value = new_value()
    await ledger.submit(
        cmd.CreateToken(
            project=project,
            token_id=str(uuid4()),
            name=f"{project} {selector}",
            role="ai_training_read",
            sha256=sha256_of(value),
            label_selector=selector,
        ),
        actor="test",
    )
    return value


async def until_at(author: Author, position: int) -> None:
    async def there() -> bool:
        return await author.position() >= position

    await until(there, DEADLINE_S)


async def test_every_client_gets_its_events_once_and_in_order_however_often_the_service_dies(
    ledger: Ledger, database_url: str, tmp_path: Path, chaos: Chaos
) -> None:
    events, times = chaos.times(short=20_000, long=50_000), chaos.times(short=5, long=10)
    author = Author(Yard(ledger))
    await author.open()
    wanted = wishes(author.standing)
    values: dict[tuple[str, str | None], str] = {}
    for wish in wanted:
        if (wish.project, wish.selector) not in values:
            values[wish.project, wish.selector] = await token(ledger, wish.project, wish.selector)
    clients = [
        crowd.Client(wish.query, values[wish.project, wish.selector], number % 2 == 0)
        for number, wish in enumerate(wanted)
    ]
    async with asyncio.timeout(DEADLINE_S), serving(database_url, tmp_path) as service:
        orders = msgspec.json.encode(crowd.Orders(service.url, clients))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.api.crowd"), stdin=PIPE, stdout=PIPE, limit=2**26
        )
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(orders + b"\n")
        writing = asyncio.create_task(author.write(0))
        try:
            for kills in range(times):
                # All are there, some still catching up; what is written now comes while they are, and after.
                while int(await process.stdout.readline()) < CLIENTS * (kills + 1):
                    pass
                await writing
                writing = asyncio.create_task(author.write(events * (kills + 1) // times))
                await until_at(author, events * (2 * kills + 1) // (2 * times))
                await service.kill()
                await service.start()
            await writing
            end = await author.position()
            process.stdin.write(b"end %d\n" % end)
            while (line := await process.stdout.readline()).strip().isdigit():
                pass
            process.stdin.close()
            assert await process.wait() == 0
        finally:
            writing.cancel()
            if process.returncode is None:
                process.kill()
                await process.wait()
    seen = msgspec.json.decode(line, type=crowd.Crowd)
    history = await rows(ledger)
    assert end >= events and len(history) == end
    for wish, got in zip(wanted, seen.seen, strict=True):
        assert got == [row.position for row in history if wish.wants(row)], wish
    assert seen.connections > CLIENTS * times
    chaos.told("websockets of a service killed", clients=CLIENTS, events=end, kills=times, missed=0, twice=0)

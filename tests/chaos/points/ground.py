"""What outlives a service that is ended at a point, and the processes that come and go on it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import msgspec

from service.local import first_run
from service.supervisor.data import StoreAccess
from service.supervisor.engine.docker import DockerEngine
from tests.chaos.points.points import CRASHED
from tests.chaos.points.program import Orders, settings_for
from tests.images import docker_socket
from tests.supervisor import world
from tests.supervisor.bucket import Bucket, a_bucket
from tests.supervisor.world import World
from tests.support.waiting import until

#: For anything to happen, on a machine that others use too.
DEADLINE_S = 180.0


@dataclass
class Service:
    """One process of the service."""

    pid: asyncio.Future[int]
    port: asyncio.Future[int]
    code: asyncio.Future[int]


class Nursery:
    """Makes processes of the service: see `program`."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._ids = count(1)
        self._services: dict[int, Service] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator[Nursery]:
        root = str(Path(__file__).parents[3])
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.chaos.points.program"),
            stdin=PIPE,
            stdout=PIPE,
            cwd=root,
            env=os.environ | {"PYTHONPATH": root},
        )
        nursery = cls(process)
        hearing = asyncio.create_task(nursery._hear())
        try:
            yield nursery
        finally:
            assert process.stdin is not None
            process.stdin.close()
            await process.wait()
            await hearing

    async def _hear(self) -> None:
        assert self._process.stdout is not None
        while line := (await self._process.stdout.readline()).decode().split():
            what, number, value = line[0], int(line[1]), int(line[2])
            service = self._services[number]
            {"started": service.pid, "listens": service.port, "ended": service.code}[what].set_result(value)

    def start(self, **orders: str | None) -> Service:
        assert self._process.stdin is not None
        number = next(self._ids)
        loop = asyncio.get_running_loop()
        service = Service(loop.create_future(), loop.create_future(), loop.create_future())
        self._services[number] = service
        told = msgspec.convert({"id": number, **orders}, Orders)
        self._process.stdin.write(msgspec.json.encode(told) + b"\n")
        return service


@dataclass
class Ground:
    """A database, a state directory, an engine and a store; with a service at work on them, most of the time.

    The first is ended at `crash_at`. Whoever looks after it starts the next one `away_s` later, and no third.
    """

    nursery: Nursery
    world: World
    bucket: Bucket
    token: str
    folder: Path
    crash_at: str | None = None
    plant: str | None = None
    away_s: float = 0.0
    service: Service | None = None
    crashes: int = 0
    #: From when to when there was no service, if it was ended.
    away: tuple[datetime, datetime] | None = None
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def points(self) -> Path:
        """What the first service crossed."""
        return self.folder / "points-1"

    def log(self) -> str:
        return "".join(path.read_text()[-4000:] for path in sorted(self.folder.glob("service-*.log")))

    @asynccontextmanager
    async def looked_after(self) -> AsyncIterator[asyncio.Task[None]]:
        """Keep a service at work while the context lasts; nothing is left of it afterwards.

        The task ends when a service ends in order, and raises when one ends that was not to.
        """
        looking = asyncio.create_task(self._look_after())
        try:
            yield looking
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
            if self.service is not None and not self.service.code.done():
                os.kill(await self.service.pid, signal.SIGKILL)
                await self.service.code

    async def _look_after(self) -> None:
        while True:
            number = self.crashes + 1
            self.service = self.nursery.start(
                url=self.world.url,
                state=str(self.world.settings.state_dir),
                log=str(self.folder / f"service-{number}.log"),
                points=str(self.folder / f"points-{number}"),
                docker_host=f"unix://{docker_socket()}",
                crash_at=self.crash_at if number == 1 else None,
                plant=self.plant,
            )
            self._news.set()
            code = await asyncio.shield(self.service.code)
            if code == 0:
                return
            assert (code, number) == (CRASHED, 1), f"service {number} ended with {code}: {self.log()}"
            since = datetime.now(UTC)
            await asyncio.sleep(self.away_s)
            self.away = (since, datetime.now(UTC))
            self.crashes += 1

    async def url(self) -> str:
        """Of the service that listens now or next."""
        while True:
            self._news.clear()
            service = self.service
            if service is not None and not service.code.done():
                async with asyncio.timeout(DEADLINE_S):
                    await asyncio.wait({service.port, service.code}, return_when=asyncio.FIRST_COMPLETED)
                if service.port.done() and not service.code.done():
                    return f"http://127.0.0.1:{service.port.result()}"
            async with asyncio.timeout(DEADLINE_S):
                await self._news.wait()

    async def stop(self, looking: asyncio.Task[None]) -> None:
        """In order. A point on the way out is one like any other: the next service is stopped as well."""
        crashes = self.crashes
        await self._terminate()
        await until(lambda: looking.done() or self.crashes > crashes, DEADLINE_S, what="its end")
        if not looking.done():
            await until(self._is_at_work, DEADLINE_S, what="a supervisor that has started")
            await self._terminate()
        await looking

    async def _terminate(self) -> None:
        assert self.service is not None
        with suppress(ProcessLookupError):
            os.kill(await self.service.pid, signal.SIGTERM)

    async def _is_at_work(self) -> bool:
        events = await self.world.ledger.events(0, limit=10_000)
        return [event.type for event in events].count("SupervisorStarted") > self.crashes


@asynccontextmanager
async def ground(
    nursery: Nursery,
    template: str,
    access: StoreAccess,
    folder: Path,
    *,
    crash_at: str | None = None,
    plant: str | None = None,
    away_s: float = 0.0,
) -> AsyncIterator[Ground]:
    """With a project, a bucket with something in it, and nobody at work yet."""
    folder.mkdir()
    engine = DockerEngine()
    try:
        async with (
            world.world(template, folder / "state", engine, access) as made,
            a_bucket(access) as bucket,
        ):
            made.deadline_s = DEADLINE_S
            made.settings = settings_for(folder / "state")
            token = await first_run.prepare(made.ledger, made.settings, None)
            await bucket.put({"in/word": b"said\n", "out/gone": b"1", "out/kept": b"2"})
            yield Ground(nursery, made, bucket, token, folder, crash_at, plant, away_s)
    finally:
        await engine.close()

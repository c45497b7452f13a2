"""What the way by the ledger adds to a container's start, and how many short jobs a node gets through.

Bare: aiodocker's own create and start, of the same container (limits, labels, network of its own) that a job
has, image present. Ours: a job that is submitted to the ledger, by a process of its own, while a supervisor
in another one looks after the engine; it runs once the ledger tells so. For the short jobs, bare is a loop of
four that create, start, wait and remove, and ours a node of four CPUs, whose jobs take one each; the log of
each is kept, its exit is recorded before it is removed, and its bill is made.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import statistics
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID, uuid4

import aiodocker
import uvloop

from service import app
from service.config import read_settings
from service.domain import commands as cmd
from service.domain.asked import JobSpecAsked, ResourcesAsked
from service.domain.events import Body, RunErrored, RunFinalized, RunStarted
from service.domain.flavors import DEFAULT_CATALOGUE
from service.domain.reading import read_spec
from service.domain.spec import JobSpec
from service.ledger.ledger import Ledger
from service.memory import collect_seldom
from service.supervisor.engine.create import create_body
from service.supervisor.engine.docker import DockerEngine
from service.supervisor.engine.protocol import ContainerSpec
from service.supervisor.names import LEDGER, RunId, network_name, run_labels
from service.telemetry import set_up_logging
from service.vault import MasterKey
from tests.bench import yard
from tests.bench.measure import ROUNDS, Figure, Measure, quick, summed_up
from tests.images import BUSYBOX, import_busybox

_DOCKER = os.environ.get("JOBYARD_TEST_DOCKER_HOST", "unix:///var/run/docker.sock")
_MASTER = MasterKey(b"b" * 32)
_AT_ONCE = 4
_PAIRS = 5
#: Of starts: the time that dockerd itself takes varies by some 20 ms from one round to the next.
_ROUNDS = 3 * ROUNDS
_LONG = ("sleep", "600")
_SHORT = ("true",)


async def bench() -> AsyncGenerator[Measure | Figure, None]:
    os.environ["DOCKER_HOST"] = _DOCKER  # where the image is made
    import_busybox()
    pairs, jobs = (1, 8) if quick() else (_PAIRS, 200)
    with TemporaryDirectory(prefix="jobyard-bench-") as folder:
        async with (
            yard.database() as url,
            Ledger.open(url, _MASTER) as ledger,
            _Bare.open(ledger) as bare,
            _supervisor(ledger, url, folder),
        ):
            ours = _Ours(ledger)
            following = asyncio.create_task(ours.follow())
            try:
                for measure in await _latency(bare, ours, pairs):
                    yield measure
                yield await _throughput(bare, ours, jobs)
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)


async def _latency(bare: _Bare, ours: _Ours, pairs: int) -> list[Measure | Figure]:
    """Of each round, the medians of so many starts of either side, one at a time and in turn."""
    await bare.started_ms()
    await ours.started_ms()
    rounds = []
    for _ in range(ROUNDS if quick() else _ROUNDS):
        times = [(await bare.started_ms(), await ours.started_ms()) for _ in range(pairs)]
        rounds.append((statistics.median(t[0] for t in times), statistics.median(t[1] for t in times)))
    added = sorted(mine - limit for limit, mine in rounds)
    name = "submit to RUNNING, image present"
    return [
        summed_up(name, "ms", rounds, at_most=True),
        Figure(f"{name}: added, least of {len(rounds)} rounds", "ms", added[0]),
        Figure(f"{name}: added, median", "ms", statistics.median(added), target=25.0),
        Figure(f"{name}: added, most", "ms", added[-1]),
    ]


async def _throughput(bare: _Bare, ours: _Ours, jobs: int) -> Measure:
    await bare.rate(_AT_ONCE)
    await ours.rate(_AT_ONCE)
    rounds = [(await bare.rate(jobs), await ours.rate(jobs)) for _ in range(ROUNDS)]
    return summed_up(f"{jobs} short jobs, {_AT_ONCE} at once", "containers", rounds, target=0.90)


class _Bare:
    """aiodocker, and the container that a job of the bench has."""

    def __init__(self, docker: aiodocker.Docker, network: str, ledger: UUID) -> None:
        self._docker = docker
        self._network = network
        self._ledger = ledger

    @classmethod
    @asynccontextmanager
    async def open(cls, ledger: Ledger) -> AsyncIterator[_Bare]:
        """Takes all away from the engine that the bench had made there, ours too."""
        owners = {uuid4(): "bench", (await ledger.head()).ledger_id: yard.PROJECT}
        mine, *_ = owners
        networks = {owner: network_name(owner, project) for owner, project in owners.items()}
        engine = DockerEngine(_DOCKER)
        try:
            await engine.ensure_network(networks[mine], {LEDGER: str(mine)})
            async with aiodocker.Docker(_DOCKER) as docker:
                yield cls(docker, networks[mine], mine)
        finally:
            for owner, network in networks.items():
                for found in await engine.list({LEDGER: str(owner)}):
                    await engine.remove(found.id, force=True)
                await engine.drop_network(network, {LEDGER: str(owner)}, broken="")
            await engine.close()

    async def started_ms(self) -> float:
        began = time.perf_counter()
        container = await self._started(_LONG)
        took = time.perf_counter() - began
        await container.delete(force=True)
        return took * 1000

    async def rate(self, count: int) -> float:
        left = iter(range(count))

        async def some() -> None:
            for _ in left:
                container = await self._started(_SHORT)
                await container.wait()
                await container.delete()

        began = time.perf_counter()
        await asyncio.gather(*(some() for _ in range(_AT_ONCE)))
        return count / (time.perf_counter() - began)

    async def _started(self, command: tuple[str, ...]) -> aiodocker.containers.DockerContainer:
        job = uuid4()
        resources = _spec(job, command).resources
        spec = ContainerSpec(
            name=f"bench-{job}",
            image=BUSYBOX,
            command=command,
            labels=run_labels(self._ledger, RunId(job, 1)),
            nano_cpus=resources.cpus * 1_000_000_000,
            memory_bytes=resources.memory,
            network=self._network,
            shm_bytes=resources.memory // 2,
        )
        container = await self._docker.containers.create(create_body(spec), name=spec.name)
        await container.start()
        return container


class _Ours:
    """Jobs of the project `default`, and what the ledger tells of them."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._awaited: dict[tuple[UUID, type[Body]], asyncio.Future[None]] = {}

    async def follow(self) -> None:
        """Until cancelled: see that whoever waits for an event of a job is told."""
        after = (await self._ledger.head()).position
        async for events in self._ledger.follow(after):
            for event in events:
                if event.job is not None:
                    self._tell(event.job, event.body)

    def _tell(self, job: UUID, body: Body) -> None:
        waiting = self._awaited.pop((job, type(body)), None)
        if waiting is not None:
            waiting.set_result(None)
        elif isinstance(body, RunErrored):
            for (other, _), future in self._awaited.items():
                if other == job and not future.done():
                    future.set_exception(RuntimeError(f"a job failed: {body.info.message}"))

    def _when(self, job: UUID, kind: type[Body]) -> asyncio.Future[None]:
        return self._awaited.setdefault((job, kind), asyncio.get_running_loop().create_future())

    async def started_ms(self) -> float:
        job = uuid4()
        spec = _spec(job, _LONG)
        running, over = self._when(job, RunStarted), self._when(job, RunFinalized)
        began = time.perf_counter()
        await self._submit(job, spec)
        await running
        took = time.perf_counter() - began
        await self._ledger.submit(cmd.KillJob(project=yard.PROJECT, job=job), actor="bench")
        await over
        return took * 1000

    async def rate(self, count: int) -> float:
        specs = {job: _spec(job, _SHORT) for job in (uuid4() for _ in range(count))}
        over = [self._when(job, RunFinalized) for job in specs]
        began = time.perf_counter()
        await asyncio.gather(*(self._submit(job, spec) for job, spec in specs.items()))
        await asyncio.gather(*over)
        return count / (time.perf_counter() - began)

    async def _submit(self, job: UUID, spec: JobSpec) -> None:
        command = cmd.SubmitJob(project=yard.PROJECT, job=job, spec=spec, user="bench")
        await self._ledger.submit(command, actor="bench")


def _spec(job: UUID, command: tuple[str, ...]) -> JobSpec:
    asked = JobSpecAsked(image=BUSYBOX, resources=ResourcesAsked(cpu=1), command=list(command))
    return read_spec(asked, job_id=str(job), catalogue=DEFAULT_CATALOGUE, seal=yard.no_secrets)


@asynccontextmanager
async def _supervisor(ledger: Ledger, url: str, folder: str) -> AsyncIterator[None]:
    """A process that looks after the engine, as `jobyard up` does."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    prices = {flavor.id: flavor.hourly_price for flavor in DEFAULT_CATALOGUE.flavors}
    project = cmd.CreateProject(project=yard.PROJECT, name=yard.PROJECT, cpu=1_000_000, gpu=1_000_000)
    await ledger.submit(project, actor="bench")
    await ledger.submit(cmd.SetPrices(prices=prices, currency="EUR"), actor="bench")
    process = context.Process(target=_run, args=(url, folder, there), daemon=True)
    process.start()
    try:
        await asyncio.to_thread(here.recv)
        yield
    finally:
        process.terminate()
        await asyncio.to_thread(process.join)


def _run(url: str, folder: str, ready: Connection) -> None:
    with Path(os.devnull).open("w") as nowhere:
        set_up_logging(file=nowhere)  # its lines cost what they always cost
        collect_seldom()
        uvloop.run(_supervise(url, folder, ready))


async def _supervise(url: str, folder: str, ready: Connection) -> None:
    settings = read_settings({}, state_dir=Path(folder), node_cpus=_AT_ONCE, node_memory=1024**4)
    docker = _DOCKER
    async with (
        Ledger.open(url, _MASTER) as ledger,
        app.supervision(settings, ledger, docker, app.Duty()) as supervisor,
    ):
        await supervisor.ready.wait()
        ready.send(None)
        await asyncio.Event().wait()

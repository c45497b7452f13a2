"""A ledger of its own, an engine, a state directory, and supervisors that come and go over them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
from msgspec.structs import replace

from projections import status
from service.config import Settings
from service.config.stores import S3Access
from service.domain import commands as cmd
from service.domain.asked import (
    DataStoreAsked,
    EnvVarAsked,
    JobSpecAsked,
    ResourcesAsked,
    StandaloneAsked,
    VolumeAsked,
)
from service.domain.bills.run import Run
from service.domain.events import Event
from service.domain.evolve import evolve
from service.domain.flavors import Catalogue, Flavor
from service.domain.job import Job
from service.domain.reading import read_spec
from service.domain.states import State
from service.ledger.ledger import Ledger
from service.local import first_run
from service.supervisor.data import StoreAccess
from service.supervisor.engine.protocol import Container, ContainerSpec, Engine, ImageInfo
from service.supervisor.logs.keeper import LogKeeper
from service.supervisor.logs.reader import LogReader
from service.supervisor.logs.writer import LogLimits
from service.supervisor.names import JOB, LEDGER, RunId, container_name, network_name
from service.supervisor.supervisor import Supervisor
from service.vault import MasterKey
from tests.images import BUSYBOX, remove_network
from tests.supervisor.lab import Behaviour
from tests.supervisor.stoppable import Stoppable, Stopped
from tests.support import databases
from tests.support.engine.fake import FakeEngine
from tests.support.waiting import DEADLINE_S, gathered, until

PROJECT = "default"
MASTER = MasterKey(b"k" * 32)
MIB = 1024**2
#: Units small enough that a job can run out of memory without the machine noticing.
CATALOGUE = Catalogue(
    (
        Flavor(
            id="c1",
            kind="cpu",
            default=True,
            max_units=64,
            cpus=1,
            memory=32 * MIB,
            ephemeral_storage=1024 * MIB,
            hourly_price=Decimal("0.03"),
        ),
        Flavor(
            id="g1",
            kind="gpu",
            default=True,
            max_units=8,
            cpus=1,
            memory=32 * MIB,
            ephemeral_storage=1024 * MIB,
            hourly_price=Decimal("1.93"),
        ),
    )
)


@asynccontextmanager
async def database(template: str) -> AsyncIterator[str]:
    """The URL of a copy of a migrated database, with a ledger id of its own: containers carry it."""
    async with databases.a_database(template) as url:
        connection = await asyncpg.connect(url)
        await connection.execute("UPDATE jobyard.ledger_head SET ledger_id = gen_random_uuid()")
        await connection.close()
        yield url


class Gates:
    """Calls that stop where a test wants them to: `reached` is set when one is there, `open` lets it on."""

    def __init__(self) -> None:
        self.closed: dict[tuple[str, str], Gate] = {}

    def hold(self, call: str, when: str = "before") -> Gate:
        return self.closed.setdefault((call, when), Gate())

    async def passing(self, call: str, when: str) -> None:
        gate = self.closed.get((call, when))
        if gate is not None:
            gate.reached.set()
            await gate.open.wait()


@dataclass
class Gate:
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    open: asyncio.Event = field(default_factory=asyncio.Event)


class GatedEngine(FakeEngine):
    """The fake, some of whose calls hang, before they did anything or after they did all of it."""

    def __init__(self, clock: Callable[[], datetime], **what: Any) -> None:
        super().__init__(clock, **what)
        self.gates = Gates()
        self.specs: list[ContainerSpec] = []
        """Of every container that was ever made."""
        self.graces_s: list[int] = []
        """What each stop allowed."""
        self.started: list[str] = []
        """The name of a container each time it was started."""

    async def pull(self, ref: str, **how: Any) -> ImageInfo:
        await self.gates.passing("pull", "before")
        return await super().pull(ref, **how)

    async def create(self, spec: ContainerSpec, **how: Any) -> str:
        await self.gates.passing("create", "before")
        held = len(self._containers)
        try:
            made = await super().create(spec, **how)
        finally:  # also when it was made but the answer was lost
            self.specs += [spec] * (len(self._containers) - held)
        await self.gates.passing("create", "after")
        return made

    async def start(self, container_id: str) -> None:
        await self.gates.passing("start", "before")
        before = self._containers.get(container_id)
        began = before.started_at if before is not None else None
        try:
            await super().start(container_id)
        finally:  # also when it was started but the answer was lost
            if before is not None and before.started_at != began:
                self.started.append(before.spec.name)
        await self.gates.passing("start", "after")

    async def stop(self, container_id: str, grace_s: int) -> None:
        self.graces_s.append(grace_s)
        await self.gates.passing("stop", "before")
        await super().stop(container_id, grace_s)
        await self.gates.passing("stop", "after")

    async def remove(self, container_id: str, *, force: bool = False) -> None:
        await self.gates.passing("remove", "before")
        await super().remove(container_id, force=force)
        await self.gates.passing("remove", "after")


def fake_engine(**what: Any) -> GatedEngine:
    fake = GatedEngine(lambda: datetime.now(UTC), **what)
    fake.add_image(BUSYBOX, from_registry=False)
    return fake


@dataclass
class World:
    """What a test has at hand. Without a supervisor until it asks for one."""

    url: str
    ledger: Ledger
    settings: Settings
    engine: Engine
    seen: dict[UUID, list[Event]] = field(default_factory=lambda: defaultdict(list))
    deadline_s: float = DEADLINE_S

    @property
    def fake(self) -> GatedEngine:
        assert isinstance(self.engine, GatedEngine)
        return self.engine

    @property
    def is_real(self) -> bool:
        return not isinstance(self.engine, FakeEngine)

    @asynccontextmanager
    async def supervised(
        self,
        *,
        ready: bool = True,
        stopped: Stopped | None = None,
        logs: LogLimits | None = None,
        **changes: Any,
    ) -> AsyncIterator[Supervisor]:
        """A supervisor while the context lasts; `ready` waits until it has the engine. `stopped` can stop
        it as SIGSTOP stops a process. `logs`: how much of each it keeps."""
        settings = replace(self.settings, **changes)
        ledger: Any = Stoppable(self.ledger, stopped) if stopped else self.ledger
        engine: Any = Stoppable(self.engine, stopped) if stopped else self.engine
        keeper = LogKeeper(engine, settings.logs_dir, limits=logs, busy_s=0.02, idle_s=0.1)
        supervisor = Supervisor(ledger, engine, keeper, settings)
        task = asyncio.create_task(supervisor.run())
        try:
            if ready:
                async with asyncio.timeout(DEADLINE_S):
                    await supervisor.ready.wait()
            yield supervisor
            assert not task.done(), "the supervisor ended"
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await keeper.close()

    # -- orders ---------------------------------------------------------------------------------------

    async def submit(
        self,
        behaviour: Behaviour | None = None,
        *,
        project: str = PROJECT,
        cpu: int = 1,
        restarts_after_s: int | None = None,
        job: UUID | None = None,
        **asked: Any,
    ) -> UUID:
        """Submit a job. `restarts_after_s`: a timeout with a restart, shorter than users may ask for."""
        job = job or uuid4()
        asked.setdefault("image", BUSYBOX)
        asked.setdefault("resources", ResourcesAsked(cpu=cpu))
        if behaviour is not None:
            asked.setdefault("command", list(behaviour.command))
            await self.script(job, 1, behaviour)
        key = await self.ledger.keys.of_job(project, job)
        spec = read_spec(
            JobSpecAsked(**asked), job_id=str(job), catalogue=self.settings.catalogue, seal=key.seal
        )
        if restarts_after_s is not None:
            spec = replace(spec, timeout=restarts_after_s, timeout_auto_restart=True)
        await self.order(cmd.SubmitJob(project=project, job=job, spec=spec, user="ada"))
        return job

    async def script(self, job: UUID, run: int, behaviour: Behaviour) -> None:
        """What the fake's container of this run does."""
        if isinstance(self.engine, FakeEngine):
            self.engine.scripts[await self.name(job, run)] = behaviour.script

    async def name(self, job: UUID, run: int = 1) -> str:
        """Of the container of a run."""
        return container_name((await self.ledger.head()).ledger_id, RunId(job, run))

    async def order(self, command: cmd.Command) -> None:
        await self.ledger.submit(command, actor="ada")

    async def kill(self, job: UUID) -> None:
        await self.order(cmd.KillJob(project=PROJECT, job=job))

    async def start(self, job: UUID) -> None:
        await self.order(cmd.StartJob(project=PROJECT, job=job))

    async def delete(self, job: UUID, *, force: bool = False) -> None:
        await self.order(cmd.DeleteJob(project=PROJECT, job=job, force=force))

    # -- moments --------------------------------------------------------------------------------------

    async def when(self, job: UUID, condition: Callable[[Job, Event], bool], what: str) -> Job:
        """The job right after its first event of which the condition is true, now or in the past."""
        known: Job | None = None
        try:
            async with asyncio.timeout(self.deadline_s), aclosing(self._follow(job)) as events:
                async for event in events:
                    known = evolve(known, event)
                    if condition(known, event):
                        return known
        except TimeoutError:
            states = [visit.state.value for visit in known.history] if known else []
            raise AssertionError(f"never {what}: {states} {known.info if known else ''}") from None
        raise AssertionError("the ledger ended")

    async def _follow(self, job: UUID) -> Any:
        async for events in self.ledger.follow(0, job=job):
            for event in events:
                if status.key(event) is not None:  # a command that was run in it is no part of its state
                    yield event

    async def reach(self, job: UUID, *states: State, run: int = 1) -> Job:
        """The job at the moment it reached one of these states in this run."""
        names = " or ".join(states)
        return await self.when(
            job, lambda known, _: known.run == run and known.state in states, f"{names} in run {run}"
        )

    async def end(self, job: UUID, run: int = 1) -> Job:
        return await self.when(job, lambda known, _: known.run == run and known.ended, f"over in run {run}")

    async def told(self, job: UUID, code: str) -> Job:
        """The job at the moment when its info had this code."""
        return await self.when(job, lambda known, _: known.info.code == code, f"told {code}")

    # -- looks ----------------------------------------------------------------------------------------

    async def events(self, job: UUID | None = None) -> list[Event]:
        return await self.ledger.events(0, limit=10_000, job=job)

    async def bill(self, job: UUID, run: int = 1) -> Run:
        return next(line for line in await self.ledger.runs(job) if line.run == run)

    async def log(self, job: UUID, run: int = 1) -> str:
        """The whole log of a run; waits until it is complete."""
        async with asyncio.timeout(self.deadline_s):
            chunks = LogReader(self.settings.logs_dir, poll_s=0.02).follow(job, run)
            return (await gathered(chunks)).decode()

    async def containers(self, job: UUID | None = None) -> list[Container]:
        """All containers of this ledger that are there, or those of a job."""
        labels = {LEDGER: str((await self.ledger.head()).ledger_id)} | ({JOB: str(job)} if job else {})
        found = [await self.engine.find(each.id) for each in await self.engine.list(labels)]
        return [each for each in found if each is not None]

    async def container(self, job: UUID) -> Container:
        (found,) = await self.containers(job)
        return found

    def volume(self, job: UUID, index: int = 0, run: int = 1) -> Path:
        return self.settings.volumes_dir / str(job) / str(run) / str(index)

    def created(self, job: UUID) -> list[str]:
        """The names of all containers that the fake ever made for a job."""
        return [spec.name for spec in self.fake.specs if spec.labels[JOB] == str(job)]

    async def printed(self, job: UUID, text: str = "ready") -> None:
        """The moment the job's container has printed this."""
        found = await self.container(job)
        async with (
            asyncio.timeout(self.deadline_s),
            aclosing(self.engine.logs(found.id, follow=True)) as chunks,
        ):
            async for batch in chunks:
                if any(text.encode() in chunk.payload for chunk in batch):
                    return
        raise AssertionError(f"{text!r} was never printed")


def settings_of(state_dir: Path) -> Settings:
    """A node of 8 CPUs, and everything quicker than in earnest."""
    return Settings(
        state_dir=state_dir,
        catalogue=CATALOGUE,
        default_quota_cpu=64,
        default_quota_gpu=8,
        node="node-1",
        node_cpus=8,
        retry_s=0.02,
        poll_s=0.25,
        stop_grace_s=1,
        progress_s=0.05,
        storage_check_s=0.1,
        budget_look_s=0.1,
        store_attempts=2,
        pull_attempts=2,
    )


@asynccontextmanager
async def world(
    template: str, state_dir: Path, engine: Engine, store: StoreAccess | None = None, **changes: Any
) -> AsyncIterator[World]:
    settings = replace(settings_of(state_dir), **changes)
    state_dir.mkdir()
    async with database(template) as url, Ledger.open(url, MASTER) as ledger:
        s3 = None
        if store is not None:
            s3 = S3Access(store.endpoint, store.access_key, store.secret_key, store.region)
        await first_run.prepare(ledger, settings, s3)
        made = World(url, ledger, settings, engine)
        try:
            yield made
        finally:
            if made.is_real:
                await _clear(made)


async def _clear(made: World) -> None:
    """Take the ledger's containers and networks from a real engine."""
    for found in await made.containers():
        await made.engine.remove(found.id, force=True)
    ledger_id = (await made.ledger.head()).ledger_id
    for project in await made.ledger.projects():
        network = network_name(ledger_id, project.id)
        await until(partial(_is_gone, network), what=f"the network {network} is removed")


def _is_gone(network: str) -> bool:
    """Removes it. A busy dockerd may still count a container of which it has just said that it is removed."""
    try:
        remove_network(network)
    except RuntimeError as error:
        if "has active endpoints" in str(error):
            return False
        if ": 404 " not in str(error):
            raise
    return True


def env(**variables: str) -> list[EnvVarAsked]:
    return [EnvVarAsked(name=name, value=value) for name, value in variables.items()]


def volume(
    path: str, permission: str, container: str | None = None, prefix: str = "", **more: Any
) -> VolumeAsked:
    """A volume of the data store `local`; a standalone one without a container."""
    if container is None:
        return VolumeAsked(mount_path=path, permission=permission, standalone=StandaloneAsked())
    source = DataStoreAsked(alias=first_run.ALIAS, container=container, prefix=prefix)
    return VolumeAsked(mount_path=path, permission=permission, data_store=source, **more)

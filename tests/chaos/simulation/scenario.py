"""The story of one seed: jobs, wishes of users, supervisors that come and go, and faults for a while."""

from __future__ import annotations

import asyncio
import os
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from service.api.auth import sha256_of
from service.config import Settings
from service.domain import commands as cmd
from service.supervisor.supervisor import Supervisor
from tests.chaos.simulation import loop
from tests.chaos.simulation.answers import Answers
from tests.chaos.simulation.api import TOKEN, Api
from tests.chaos.simulation.clients import IN, Client
from tests.chaos.simulation.docker import INPUT, SimEngine
from tests.chaos.simulation.ledger import SimLedger
from tests.chaos.simulation.machine import DISK, HOST, RESERVE, without_chance
from tests.chaos.simulation.oracle import Oracle
from tests.chaos.simulation.postgres import Postgres, Record
from tests.chaos.simulation.process import Gated, Process
from tests.chaos.simulation.stores import PROCESS, Objects
from tests.support.jobs import PRICES, SEALED

FAULTS_LAST_S = 240.0
SETTLED_BY_S = 3600.0
PROJECT = "default"
STORE = cmd.SetDataStore(
    project=PROJECT, alias="store", endpoint="https://store.invalid", access_key=SEALED, secret_key=SEALED
)
USER = cmd.CreateToken(
    project=PROJECT, token_id="user", name="ada", role="administrator", sha256=sha256_of(TOKEN)
)
#: Volumes are real folders. To wait for a disk would only cost time.
_IN_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@dataclass(frozen=True)
class Told:
    """What came of a seed. `trace` is the hash of every event and effect in order."""

    seed: int
    broken: str | None
    trace: str
    steps: int
    crashes: int
    lost_commits: int


class _Keeper:
    """Logs are not simulated: they have a harness of their own."""

    def missed(self, *_: Any) -> None: ...

    def watch(self, *_: Any) -> None: ...

    def seal(self, *_: Any, gone: bool = False) -> None: ...

    async def finish(self, *_: Any) -> None: ...

    async def close(self) -> None: ...


class World:
    """Everything of one seed."""

    def __init__(self, seed: int, state_dir: Path) -> None:
        self.chance = Random(seed)
        self.server = Postgres(self._fork())
        self.objects = Objects(self.server.clock, self._fork())
        self.oracle = Oracle(self.server, self.objects)
        self.answers = Answers(self.server, self.oracle.note, self.oracle.wrong)
        self.server.on_commit = self._committed
        self.server.on_repeat = self.oracle.repeated
        self.truth = self.oracle.truth
        self.server.on_lease = self.truth.supervision.taken
        self.server.on_renewal = self.truth.supervision.renewed
        self.engine = SimEngine(self.server.clock, self._fork(), self.oracle.effect)
        self.truth.engine = self.engine
        self.settings = Settings(
            state_dir=state_dir, default_quota_cpu=6, node="node-1", node_cpus=16, node_memory=2**40,
            retry_s=0.5, poll_s=5, stop_grace_s=1, storage_check_s=30, pull_attempts=3,
            lease_ttl_s=15, room_look_s=10, disk_reserve_bytes=RESERVE,
        )  # fmt: skip
        self.disk_free = DISK
        self.faulty = True
        self.crash_rate, self.stop_rate = self.chance.choice((0.0, 0.002, 0.01)), 0.0005
        self.crashes = 0
        self._jobs: list[str] = []
        self._apis: list[Api | None] = [None, None]
        self._made = 0
        self._processes: list[Process] = []

    def _fork(self) -> Random:
        return Random(self.chance.getrandbits(64))

    def _committed(self, process: Process, records: list[Record]) -> None:
        self.oracle.commit(process, records)
        self.answers.committed(records)

    # -- processes ----------------------------------------------------------------------------------------

    def process(self, name: str, ended: asyncio.Event) -> Process:
        def crashed(process: Process) -> None:
            self.crashes += 1
            self.truth.supervision.killed(process)
            ended.set()

        self._made += 1
        made = Process(f"{name}-{self._made}", self._fork(), crashed)
        made.on_stop = self.truth.supervision.stopped
        self._processes.append(made)
        if self.faulty:
            made.crash_rate, made.stop_rate = self.crash_rate, self.stop_rate
        return made

    async def supervise(self, host: str) -> None:
        """A supervisor on a host, begun again each time it was killed."""
        while True:
            ended = asyncio.Event()
            process = self.process(host, ended)
            ledger = SimLedger(self.server, process)
            engine: Any = Gated(self.engine, process, frozenset({"close"}))
            keeper: Any = _Keeper()
            HOST.set(f"{host}/{process.name}")
            PROCESS.set(process)
            supervisor = Supervisor(ledger, engine, keeper, self.settings)
            running = (ledger.writer.run(), ledger.listener.run(), supervisor.run())
            tasks = [asyncio.create_task(each) for each in running]
            try:
                await ended.wait()
            finally:
                process.dead = True
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(self.chance.uniform(0.1, 20))

    async def serve(self, slot: int) -> None:
        """An API process, begun again each time it was killed."""
        while True:
            ended = asyncio.Event()
            process = self.process(f"api-{slot}", ended)
            ledger = SimLedger(self.server, process)
            self._apis[slot] = api = Api(ledger, process, self.settings)
            writing = asyncio.create_task(ledger.writer.run())
            try:
                await ended.wait()
            finally:
                process.dead, self._apis[slot] = True, None
                tasks = [writing, *sorted(api.tasks, key=hash)]
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(self.chance.uniform(0.1, 10))

    async def set_up(self) -> None:
        """What there must be before anybody comes: by hand, and nothing fails yet."""
        ledger = SimLedger(self.server, Process("setup", self._fork(), lambda _: None))
        writing = asyncio.create_task(ledger.writer.run())
        for command in (
            cmd.CreateProject(project=PROJECT, name=PROJECT, cpu=6, gpu=0),
            cmd.SetPrices(prices=PRICES, currency="EUR"),
            STORE,
            USER,
        ):
            await ledger.submit(command, actor="setup")
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)

    async def users(self) -> None:
        """So many wishes, shared among a few clients."""
        clients = self.chance.randint(1, 3)
        wishes = self.chance.randint(4, 12)
        made = [
            Client(f"client-{n}", self._apis, self.answers, self._jobs, self._fork()) for n in range(clients)
        ]
        shares = [wishes // clients + (n < wishes % clients) for n in range(clients)]
        await asyncio.gather(*(each.run(share) for each, share in zip(made, shares, strict=True)))

    # -- faults -------------------------------------------------------------------------------------------

    async def faults(self) -> None:
        """Whatever goes wrong for a while; then nothing more does."""
        chance, rates = self.chance, (0.0, 0.02, 0.1)
        self.server.lost_rate = chance.choice(rates)
        self.engine.fault_rate = chance.choice((0.0, 0.01, 0.05))
        self.engine.loss_rate = chance.choice((0.0, 0.3, 1.0))
        self.objects.fault_rate = chance.choice((0.0, 0.02, 0.2))
        ends = FAULTS_LAST_S
        clock = asyncio.get_running_loop()
        while (pause_s := chance.uniform(5, 60)) < ends - clock.time():
            await asyncio.sleep(pause_s)
            self._put_clock_right()
            roll = chance.random()
            if roll < 0.25:
                self.engine.restart(chance.uniform(0, 20), kills=chance.random() < 0.5)
            elif roll < 0.5:
                self.server.jump(chance.choice((-3600, -30, -1, 1, 30, 3600)))
            elif roll < 0.75:
                self.disk_free = chance.choice((0, RESERVE - 1, RESERVE + 1, DISK))
            else:
                self.objects.down_until = clock.time() + chance.uniform(0, 60)
        await asyncio.sleep(max(0.0, ends - clock.time()))
        self.faulty = False
        self._put_clock_right()
        self.disk_free = DISK
        for process in self._processes:
            process.crash_rate = process.stop_rate = 0.0
        self.server.lost_rate = self.engine.fault_rate = self.engine.loss_rate = 0.0
        self.objects.fault_rate = self.objects.down_until = 0.0

    def _put_clock_right(self) -> None:
        """One that is behind the last event: no run begins meanwhile, and an hour is longer than a story."""
        behind_s = (self.server.recorded_at - self.server.clock()).total_seconds()
        if behind_s > 0:
            self.server.jump(behind_s)

    async def run(self) -> None:
        await self.set_up()
        self.objects.put(IN, INPUT, b"given")
        hosts = ("one", "two")[: self.chance.randint(1, 2)]
        tasks = [asyncio.create_task(self.supervise(host)) for host in hosts]
        tasks += [asyncio.create_task(each) for each in (self.serve(0), self.serve(1))]
        users, faults = asyncio.create_task(self.users()), asyncio.create_task(self.faults())
        tasks += [users, faults]
        clock = asyncio.get_running_loop()
        try:
            while clock.time() < SETTLED_BY_S and self.oracle.broken is None:
                await asyncio.sleep(5)
                for task in tasks:
                    if task.done():
                        task.result()  # nobody of this ends by an error
                settled = self.oracle.unsettled(self.engine.all(), self.settings.volumes_dir) is None
                if settled and users.done() and faults.done():
                    self.answers.end()
                    return
            left = self.oracle.unsettled(self.engine.all(), self.settings.volumes_dir)
            if left is not None:
                self.oracle.wrong(f"never settled: {left}")
            if not users.done():
                self.oracle.wrong("a client still waits for an answer")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def play(seed: int) -> Told:
    """The whole story of a seed, by itself and from the beginning."""
    with tempfile.TemporaryDirectory(prefix="jobyard-sim-", dir=_IN_MEMORY) as state_dir:
        world = World(seed, Path(state_dir))
        with without_chance(world.chance, world.objects, lambda: world.disk_free):
            try:
                loop.run(world.run())
            except loop.Stuck as error:
                world.oracle.broken = world.oracle.broken or str(error)
            except Exception as error:  # noqa: BLE001 (told with its seed, and the other seeds go on)
                said = "".join(traceback.format_exception(error))
                world.oracle.broken = world.oracle.broken or f"ended by an error:\n{said}"
    oracle = world.oracle
    return Told(seed, oracle.broken, oracle.trace, oracle.steps, world.crashes, world.server.lost)

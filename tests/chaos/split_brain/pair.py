"""The two of them as a test has them, what their containers were asked to do, and what must be true of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import aiohttp

from service.domain.states import State
from tests.images import docker_socket
from tests.supervisor.lab import Behaviour, shell
from tests.supervisor.world import World
from tests.support.engine.scripted import Script
from tests.support.waiting import until

LEASE_TTL_S = 1.0
#: Others use the machine too.
DEADLINE_S = 90.0
WORKS = Behaviour(shell("echo began; sleep 0.2"), Script(ticks=0))


@dataclass
class Child:
    """One supervisor. `said`: how often it said what."""

    process: Process
    log: Path
    said: Counter[str] = field(default_factory=Counter)

    async def stop_before(self, call: str) -> None:
        """Returns when it knows: what it does from then on does not come before the order."""
        assert self.process.stdin is not None
        known = self.said["known"]
        self.process.stdin.write(f"{call}\n".encode())
        await self.more("known", known)

    def send(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    async def more(self, word: str, than: int) -> None:
        await until(
            lambda: self.said[word] > than, DEADLINE_S, what=f"{word!r}: {self.log.read_text()[-3000:]}"
        )

    def logged(self, event: str) -> list[dict[str, object]]:
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def words(self) -> int:
        """How often it stepped down, or did what only the one with the lease may: record, and start."""
        started = [
            line
            for line in self.logged("effect")
            if (line["effect"], line["outcome"]) == ("start-container", "ok")
        ]
        return len(self.logged("lease lost")) + len(self.logged("reported")) + len(started)

    async def hear(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.said[line.decode().strip()] += 1


@asynccontextmanager
async def child(world: World, name: str, planted: str = "") -> AsyncIterator[Child]:
    orders = json.dumps([world.url, str(world.settings.state_dir), LEASE_TTL_S, planted])
    log = world.settings.state_dir / f"{name}.log"
    with log.open("w") as file:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.chaos.split_brain.child", orders),
            stdin=PIPE,
            stdout=PIPE,
            stderr=file,
            cwd=Path(__file__).parents[3],
        )
    made = Child(process, log)
    hearing = asyncio.create_task(made.hear())
    try:
        yield made
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await asyncio.gather(hearing, return_exceptions=True)


class Starts:
    """How often the engine says it started a container of each job."""

    def __init__(self) -> None:
        self.of: Counter[str] = Counter()
        self._listening = asyncio.Event()

    @asynccontextmanager
    async def counted(self) -> AsyncIterator[Starts]:
        task = asyncio.create_task(self._listen())
        try:
            async with asyncio.timeout(DEADLINE_S):
                await self._listening.wait()
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _listen(self) -> None:
        filters = json.dumps({"type": ["container"], "event": ["start"], "label": ["jobyard.job"]})
        connector = aiohttp.UnixConnector(path=docker_socket())
        timeout = aiohttp.ClientTimeout(total=None)
        async with (
            aiohttp.ClientSession("http://docker", connector=connector, timeout=timeout) as http,
            http.get("/events", params={"filters": filters}) as response,
        ):
            self._listening.set()
            async for line in response.content:
                self.of[json.loads(line)["Actor"]["Attributes"]["jobyard.job"]] += 1


@dataclass
class Pair:
    """Both supervisors; `first` has the engine whenever a round begins."""

    world: World
    first: Child
    second: Child
    starts: Starts
    jobs: list[UUID] = field(default_factory=list)

    async def round(self, moment: str | float, *, late: bool, both: bool = False) -> None:
        """Stop the one that has the engine before `moment` (a call, or so many seconds from now) and let it
        go on once the other has it: at once, or `late`, when the other is through with the jobs. `both`: the
        other is stopped at the same moment before the first one goes on."""
        one, other = self.first, self.second
        stopped, others, ready = one.said["stopped"], other.said["stopped"], other.said["ready"]
        if both:
            await other.stop_before(str(moment))
        if isinstance(moment, str):
            await one.stop_before(moment)
        fresh = [await self.world.submit(WORKS) for _ in range(2)]
        self.jobs += fresh
        if isinstance(moment, str):
            await one.more("stopped", stopped)
        else:
            await asyncio.sleep(moment)
            one.send(signal.SIGSTOP)
        await other.more("ready", ready)
        if both:
            await other.more("stopped", others)
        elif late:
            await asyncio.gather(*map(self.over, fresh))
        words = one.words()
        one.send(signal.SIGCONT)
        await until(lambda: one.words() > words, DEADLINE_S, what="the one that was stopped has noticed")
        if both:
            await asyncio.gather(*map(self.over, fresh))
            other.send(signal.SIGCONT)
        await asyncio.gather(*map(self.over, fresh))
        await until(self._settled, DEADLINE_S, what="one of them has the engine")

    async def over(self, job: UUID) -> None:
        async def ended() -> bool:
            return (await self.world.ledger.job(job)).ended

        await until(ended, DEADLINE_S, what=f"the end of job {job}")

    async def _settled(self) -> bool:
        """Whoever is ready was so last; from now on that one is the first."""
        held = await self.world.ledger.pool.fetchrow("SELECT holder, expires_at > now() AS held FROM leases")
        if not held or not held["held"]:
            return False
        pid = held["holder"].rpartition("/")[2].partition("-")[0]
        if pid not in (str(self.first.process.pid), str(self.second.process.pid)):
            return False
        if pid == str(self.second.process.pid):
            self.first, self.second = self.second, self.first
        return True

    async def faults(self) -> list[str]:
        """What is not as it must be: nothing, in the end."""
        found = []
        for job in self.jobs:
            kinds = Counter(event.type for event in await self.world.events(job))
            if kinds["RunStarted"] != 1 or kinds["RunExited"] != 1:
                found.append(f"job {job} was recorded as {dict(kinds)}")
            if self.starts.of[str(job)] != 1:
                found.append(f"job {job} was started {self.starts.of[str(job)]} times")
            if (state := (await self.world.ledger.job(job)).state) is not State.DONE:
                found.append(f"job {job} is {state}")
            text = await self.world.log(job)
            # A slow engine is noted in the log, and no fault.
            if [line for line in text.splitlines() if not line.startswith("[jobyard]")] != ["began"]:
                found.append(f"job {job} printed {text!r}")
        return found + await self._stale()

    async def _stale(self) -> list[str]:
        """Every event that a supervisor wrote with another epoch than the one in force at that position."""
        begun = [
            (event.position, event.body.epoch)
            for event in await self.world.events()
            if event.type == "SupervisorStarted"
        ]
        found = []
        for each in (self.first, self.second):
            for line in each.logged("reported"):
                position, epoch = int(str(line["position"])), line["epoch"]
                in_force = [held for at, held in begun if at <= position][-1]
                if epoch != in_force:
                    found.append(f"epoch {epoch} wrote position {position}, when {in_force} was in force")
        return found


@asynccontextmanager
async def pair(world: World, planted: str = "") -> AsyncIterator[Pair]:
    """Two supervisors over a world on a real engine; the first has it."""
    async with Starts().counted() as starts, child(world, "first", planted) as first:
        await first.more("ready", 0)
        async with child(world, "second", planted) as second:
            await until(lambda: second.logged("another supervisor holds the engine; waiting"), DEADLINE_S)
            yield Pair(world, first, second, starts)

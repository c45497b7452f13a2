"""A supervisor in a process of its own, to be stopped and killed: `-m tests.supervisor.supervise JSON`.

It says `ready` each time it has the engine. The log goes to standard error.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec.structs import replace

from service.ledger.ledger import Ledger
from service.supervisor.engine.docker import DockerEngine
from service.supervisor.logs.keeper import LogKeeper
from service.supervisor.supervisor import Supervisor
from service.telemetry import set_up_logging
from tests.supervisor.world import MASTER, World, settings_of
from tests.support.waiting import DEADLINE_S, until


async def main(url: str, state_dir: str, lease_ttl_s: float) -> None:
    settings = replace(settings_of(Path(state_dir)), lease_ttl_s=lease_ttl_s)
    async with Ledger.open(url, MASTER) as ledger:
        engine = DockerEngine()
        supervisor = Supervisor(ledger, engine, LogKeeper(engine, settings.logs_dir), settings)
        running = asyncio.create_task(supervisor.run())
        while not running.done():
            await supervisor.ready.wait()
            print("ready", flush=True)
            while supervisor.ready.is_set():
                await asyncio.sleep(0.05)
        await running


class Child:
    """The process and what it says."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self.pid = process.pid
        self._log = log

    async def ready(self) -> None:
        """Wait until it has the engine, once more."""
        assert self.process.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            said = await self.process.stdout.readline()
        assert said == b"ready\n", self._log.read_text()

    async def logged(self, text: str) -> None:
        """Wait for a line of its log."""
        await until(lambda: text in self._log.read_text(), what=f"{text!r} in the log")

    async def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()


@asynccontextmanager
async def supervising(
    world: World, *, lease_ttl_s: float = 10.0, ready: bool = True, within: Sequence[str] = ()
) -> AsyncIterator[Child]:
    """A child that supervises the world's engine, killed at the latest when the context ends.

    `within`: what it is begun by.
    """
    orders = json.dumps([world.url, str(world.settings.state_dir), lease_ttl_s])
    log = world.settings.state_dir / "child.log"
    with log.open("w") as file:
        process = await asyncio.create_subprocess_exec(
            *within,
            sys.executable,
            "-m",
            "tests.supervisor.supervise",
            orders,
            stdout=asyncio.subprocess.PIPE,
            stderr=file,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        )
    child = Child(process, log)
    try:
        if ready:
            await child.ready()
        yield child
    finally:
        await child.kill()


if __name__ == "__main__":
    set_up_logging()
    asyncio.run(main(*json.loads(sys.argv[1])))

"""A supervisor that stops itself by SIGSTOP right before a call: `-m tests.chaos.split_brain.child JSON`.

It reads names of calls (of the engine, or of a command) from its input, one a line, says `known`, and stops
before the next of that name. It says `ready` each time it has the engine, and `stopped` before it stops. The
log goes to standard error.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from service.errors import StaleEpoch
from service.ledger.ledger import Ledger
from service.supervisor.effects import Yard
from service.supervisor.engine.docker import DockerEngine
from service.supervisor.logs.keeper import LogKeeper
from service.supervisor.supervisor import Supervisor
from service.telemetry import set_up_logging
from tests.supervisor.stoppable import Stoppable, Stopped
from tests.supervisor.world import MASTER, settings_of


class StopsItself(Stopped):
    """The process itself is stopped, with all that it does."""

    async def passing(self, call: str = "") -> None:
        if call and call == self.stop_before:
            self.stop_before = ""
            print("stopped", flush=True)
            os.kill(os.getpid(), signal.SIGSTOP)


class StoppableLedger(Stoppable):
    """Stops before commands by their names; `forged` changes them first."""

    forged: Callable[[Any], Any] | None = None

    async def submit(self, command: Any, **named: Any) -> Any:
        await self._stopped.passing(type(command).__name__)
        if self.forged is not None:
            command = await self.forged(command)
        return await self._of.submit(command, **named)


async def main(url: str, state_dir: str, lease_ttl_s: float, planted: str) -> None:
    settings = replace(settings_of(Path(state_dir)), lease_ttl_s=lease_ttl_s)
    stopped = StopsItself()
    async with Ledger.open(url, MASTER, readers=4) as opened:
        ledger: Any = StoppableLedger(opened, stopped)
        if planted:
            setattr(Yard, "still_ours", _renewed)  # noqa: B010 (a planted bug)
            ledger.forged = _with_epoch_of(opened)
        engine: Any = Stoppable(DockerEngine(), stopped)
        keeper = LogKeeper(engine, settings.logs_dir, busy_s=0.02, idle_s=0.1)
        supervisor = Supervisor(ledger, engine, keeper, settings)
        running = asyncio.create_task(supervisor.run())
        orders = asyncio.create_task(_hear(stopped))
        while not running.done():
            await supervisor.ready.wait()
            print("ready", flush=True)
            while supervisor.ready.is_set():
                await asyncio.sleep(0.02)
        orders.cancel()
        await running


async def _hear(stopped: Stopped) -> None:
    while line := await asyncio.to_thread(sys.stdin.readline):
        stopped.stop_before = line.strip()
        print("known", flush=True)


_still_ours = Yard.still_ours


async def _renewed(self: Yard) -> None:
    """A planted bug: the lease is renewed, and that it could not be stops nobody."""
    with suppress(StaleEpoch):
        await _still_ours(self)


def _with_epoch_of(ledger: Ledger) -> Callable[[Any], Any]:
    """A planted bug: whatever epoch a command has, it counts as the one in force."""

    async def forged(command: Any) -> Any:
        if not hasattr(command, "epoch"):
            return command
        epoch = await ledger.pool.fetchval("SELECT epoch FROM leases WHERE engine = $1", command.engine)
        return replace(command, epoch=epoch)

    return forged


if __name__ == "__main__":
    set_up_logging()
    asyncio.run(main(*json.loads(sys.argv[1])))

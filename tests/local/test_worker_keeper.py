"""The keeper of the API's processes, over processes that a test ends."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import pytest

from service.local import workers
from service.local.log_file import LogFile
from tests.support.waiting import until


class Process:
    """One that is ready at once, and ends when a test says so."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdout = asyncio.StreamReader()
        self.stdout.feed_data(b"ready\n")
        self._ended = asyncio.Event()

    async def wait(self) -> int | None:
        await self._ended.wait()
        return self.returncode

    def end(self, code: int) -> None:
        self.returncode = code
        self._ended.set()

    def terminate(self) -> None:
        self.end(0)


class Machine:
    """Starts processes, or has no room for them."""

    def __init__(self) -> None:
        self.processes: list[Process] = []
        self.full = False
        self.refused = 0

    async def start(self, *_: object, **__: object) -> Process:
        if self.full:
            self.refused += 1
            raise BlockingIOError(errno.EAGAIN, "resource temporarily unavailable")
        self.processes.append(Process(len(self.processes) + 1))
        return self.processes[-1]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr(asyncio, "create_subprocess_exec", made.start)
    monkeypatch.setattr(workers, "_RESTART_S", 0.01)
    return made


async def test_one_that_dies_is_replaced_once_the_machine_has_room_for_it(machine: Machine) -> None:
    machine.full = True
    ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    orders: Any = workers.Orders("", "", "", "", 1, "", None, "", 1, None)
    keeping = asyncio.create_task(workers._keep(orders, ready, LogFile(2)))
    try:
        await until(lambda: machine.refused > 1 or keeping.done(), what="it is tried again")
        machine.full = False
        async with asyncio.timeout(60):
            await ready
        machine.full, machine.refused = True, 0
        machine.processes[0].end(-9)
        await until(lambda: machine.refused > 1 or keeping.done(), what="it is tried again")
        machine.full = False
        await until(lambda: len(machine.processes) == 2, what="another has its place")
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
    assert machine.processes[1].returncode == 0, "ended with its keeper"

"""An API process as the service starts them, to be killed and started again; no engine is needed.

It is forked from one that has imported everything already, so that a start costs no second of a core.
"""

from __future__ import annotations

import asyncio
import ctypes
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import uvloop

from service.app import listening_socket
from service.local import workers
from service.telemetry import set_up_logging
from tests.support.waiting import until

_PR_SET_PDEATHSIG = 1
START_DEADLINE_S = 60.0


def nothing() -> None:
    """No bug is planted."""


def _main(orders: workers.Orders, environment: Mapping[str, str], planted: Callable[[], None]) -> None:
    """One API process; it dies with those that it comes from."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.environ.update(environment)
    planted()
    set_up_logging("warning")
    uvloop.run(workers._serve(orders))


class Service:
    """One API process, on a port that stays. `environment` is added to its own; `planted` is called in it
    first, to break what a test must find."""

    def __init__(
        self,
        database: str,
        state: Path,
        environment: Mapping[str, str] | None = None,
        planted: Callable[[], None] = nothing,
    ) -> None:
        #: Holds the port while no process does; nothing ever listens on it here.
        self._held = listening_socket("127.0.0.1", 0, shared=True)
        self._port = self._held.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._orders = workers.Orders(
            database_url=database,
            docker_host="unix:///nowhere",
            state_dir=str(state),
            host="127.0.0.1",
            port=self._port,
            public_url=self.url,
            ssh_port=None,
            ssh_address="127.0.0.1",
            parent=os.getpid(),
        )
        self._broken = (dict(environment or {}), planted)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__])
        self._process: ForkServerProcess | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None and self._process.pid is not None
        return self._process.pid

    async def start(self) -> None:
        self._process = self._context.Process(target=_main, args=(self._orders, *self._broken), daemon=True)
        await asyncio.to_thread(self._process.start)
        await until(self._answers, START_DEADLINE_S)

    async def kill(self) -> None:
        """At once, whatever it is at."""
        assert self._process is not None
        self._process.kill()
        await asyncio.to_thread(self._process.join)

    def close(self) -> None:
        self._held.close()

    async def _answers(self) -> bool:
        assert self._process is not None and self._process.is_alive()
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            return False
        writer.transport.abort()
        return True


@asynccontextmanager
async def serving(
    database: str,
    state: Path,
    environment: Mapping[str, str] | None = None,
    planted: Callable[[], None] = nothing,
) -> AsyncIterator[Service]:
    service = Service(database, state, environment, planted)
    try:
        await service.start()
        yield service
    finally:
        await service.kill()
        service.close()

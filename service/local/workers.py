"""More API processes beside the main one, all on one port: the kernel spreads connections over them."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import structlog

from service import app
from service.config import Settings, read_settings
from service.errors import Unavailable
from service.ledger.ledger import Ledger
from service.local import log_file, stopping
from service.local.log_file import LogFile
from service.memory import collect_seldom
from service.ssh.host_key import host_key
from service.telemetry import set_up_logging
from service.vault import master_key

_log = structlog.get_logger()
ENVIRONMENT = "JOBYARD_WORKER"
_READY = b"ready\n"
_START_TIMEOUT_S = 60
_STOP_TIMEOUT_S = 15
_RESTART_S = 1.0
_PR_SET_PDEATHSIG = 1


class Orders(msgspec.Struct, frozen=True):
    """What a worker is told, through its environment: it may hold a password."""

    database_url: str
    docker_host: str
    state_dir: str
    host: str
    port: int
    public_url: str
    ssh_port: int | None
    ssh_address: str
    parent: int
    #: The file of the log; None when standard error is the log.
    log: str | None = None


@asynccontextmanager
async def workers(
    settings: Settings, database_url: str, docker_host: str, port: int, ssh_port: int | None, log: LogFile
) -> AsyncIterator[None]:
    """Run `api_workers` processes while the context lasts; one that dies is replaced. `log`: for theirs."""
    orders = Orders(
        database_url,
        docker_host,
        str(settings.state_dir),
        settings.host,
        port,
        settings.public_url,
        ssh_port,
        settings.ssh_address,
        os.getpid(),
        None if log.path is None else str(log.path),
    )
    started = [asyncio.get_running_loop().create_future() for _ in range(settings.api_workers)]
    tasks = [asyncio.create_task(_keep(orders, ready, log)) for ready in started]
    try:
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                await asyncio.gather(*started)
        except TimeoutError as error:
            raise Unavailable("the API's processes did not start; see the log") from error
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _keep(orders: Orders, ready: asyncio.Future[None], log: LogFile) -> None:
    environment = os.environ | {ENVIRONMENT: msgspec.json.encode(orders).decode()}
    while True:
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "service.local.workers",
                env=environment,
                stdout=asyncio.subprocess.PIPE,
                stderr=log.descriptor,
                start_new_session=True,
            )
        except OSError as error:  # the machine has no memory or no process left, for now
            _log.error("API process not started; it is tried again", error=str(error))
            await asyncio.sleep(_RESTART_S)
            continue
        try:
            if process.stdout and await process.stdout.readline() == _READY and not ready.done():
                ready.set_result(None)
            code = await process.wait()
            _log.error("API process ended; starting another", pid=process.pid, code=code)
        finally:
            if process.returncode is None:
                await _stop(process)
        await asyncio.sleep(_RESTART_S)


async def _stop(process: asyncio.subprocess.Process) -> None:
    process.terminate()
    try:
        async with asyncio.timeout(_STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def _serve(orders: Orders) -> None:
    settings = read_settings(
        os.environ,
        state_dir=orders.state_dir,
        host=orders.host,
        public_url=orders.public_url,
        ssh_address=orders.ssh_address,
    )
    stop = asyncio.Event()
    stopping.listen(stop)
    master = master_key(os.environ.get("JOBYARD_MASTER_KEY"), settings.master_key_file)
    async with AsyncExitStack() as stack:
        ledger = await stack.enter_async_context(Ledger.open(orders.database_url, master))
        listening = app.listening_socket(settings.host, orders.port, shared=True)
        await stack.enter_async_context(app.api(settings, ledger, listening, orders.docker_host))
        if orders.ssh_port is not None:
            key = host_key(settings.ssh_key_file)
            door = app.listening_socket(settings.ssh_host or settings.host, orders.ssh_port, shared=True)
            await stack.enter_async_context(app.ssh(ledger, door, orders.docker_host, key))
        sys.stdout.buffer.write(_READY)
        sys.stdout.flush()
        await stop.wait()


def main() -> None:
    """One API process. It dies with its parent, however that one dies."""
    import uvloop

    orders = msgspec.json.decode(os.environ.pop(ENVIRONMENT), type=Orders)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != orders.parent:
        sys.exit("the service that started this process is gone")
    log = None if orders.log is None else log_file.in_place_of_stderr(Path(orders.log))
    set_up_logging(os.environ.get("JOBYARD_LOG_LEVEL", "info"), log)
    collect_seldom()
    uvloop.run(_serve(orders))


if __name__ == "__main__":
    main()

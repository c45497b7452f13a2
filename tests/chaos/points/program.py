"""The service, to be ended at a point: `-m tests.chaos.points.program`.

It imports everything once, and then forks a service for each line of JSON on its standard input. It says
`started <id> <pid>`, `listens <id> <port>` and `ended <id> <exit code>`.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import select
import signal
import traceback
from contextlib import suppress
from pathlib import Path

import msgspec
import uvloop
from msgspec.structs import replace

from service import app
from service.config import Settings
from service.ledger.ledger import Ledger
from service.supervisor.data.s3.client import session
from service.telemetry import set_up_logging
from tests.chaos.points import plants, seams
from tests.chaos.points.points import Points
from tests.supervisor.world import MASTER, settings_of

_PR_SET_PDEATHSIG = 1


class Orders(msgspec.Struct, frozen=True):
    """One service. `crash_at` is the name of a point; `plant` of a bug."""

    id: int
    url: str
    state: str
    log: str
    points: str
    docker_host: str
    crash_at: str | None = None
    plant: str | None = None


def settings_for(state: Path) -> Settings:
    """As in the supervisor's tests. Progress is told at the ends only: each story is the same each time."""
    return replace(settings_of(state), progress_s=600.0, budget_look_s=600.0, storage_check_s=600.0)


def say(text: str) -> None:
    """One line, whole."""
    os.write(1, f"{text}\n".encode())


def main() -> None:
    session()
    stirred, stir = os.pipe()
    os.set_blocking(stir, False)
    signal.set_wakeup_fd(stir)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    running: dict[int, int] = {}
    orders_in = open(0, "rb", buffering=0)  # noqa: SIM115 (nothing may be read ahead of `select`)
    while True:
        heard, _, _ = select.select([0, stirred], [], [])
        if stirred in heard:
            os.read(stirred, 4096)
            _reap(running)
        if 0 in heard:
            line = orders_in.readline()
            if not line:
                break
            orders = msgspec.json.decode(line, type=Orders)
            running[_forked(orders)] = orders.id
    for pid in running:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _reap(running: dict[int, int]) -> None:
    for pid in list(running):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            say(f"ended {running.pop(pid)} {os.waitstatus_to_exitcode(status)}")


def _forked(orders: Orders) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid:
        say(f"started {orders.id} {pid}")
        return pid
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:
            _service(orders)
            code = 0
    except BaseException:  # noqa: BLE001 (nothing of the parent may go on in here)
        traceback.print_exc()
    finally:
        os._exit(code)


def _service(orders: Orders) -> None:
    log = os.open(orders.log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    os.dup2(log, 2)
    set_up_logging()
    points = Points(Path(orders.points), orders.crash_at)
    seams.watch_parts(points, Path(orders.state))
    if orders.plant is not None:
        plants.PLANTS[orders.plant]()
    uvloop.run(_serve(orders, points))


async def _serve(orders: Orders, points: Points) -> None:
    settings = settings_for(Path(orders.state))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with Ledger.open(orders.url, MASTER, readers=3) as ledger:
        seams.watch_ledger(points, ledger)
        listening = app.listening_socket("127.0.0.1", 0, shared=False)
        duty = app.Duty()
        async with app.api(settings, ledger, listening, orders.docker_host, duty):
            say(f"listens {orders.id} {listening.getsockname()[1]}")
            async with app.supervision(settings, ledger, orders.docker_host, duty):
                await stop.wait()


if __name__ == "__main__":
    main()

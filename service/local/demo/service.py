"""The service the demo talks to: the one that runs in the state directory, else one started for the demo."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TextIO

from service.cli import where
from service.cli.where import Up
from service.errors import Unavailable
from service.local.places import make_state, open_in_state

START_TIMEOUT_S = 600.0  # the first time, a Docker Engine may have to be installed
STOP_TIMEOUT_S = 60.0
LOG = "demo-up.log"
_POLL_S = 0.2

Say = Callable[[str], None]


@asynccontextmanager
async def running(state: Path, say: Say) -> AsyncIterator[Up]:
    """A running service of `state`; one that was started here is stopped at the end."""
    found = where.read_up(state)
    if found is not None:
        say(f"Using the service that runs at {found.url}")
        yield found
        return
    say(f"Starting a service in {state} (its log: {state / LOG})")
    async with _started(state, say) as up:
        yield up
        say("Stopping the service that was started for the demo")


@asynccontextmanager
async def _started(state: Path, say: Say) -> AsyncIterator[Up]:
    with _log(state) as log:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "service", "up", "--state", str(state), "--port", "0"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            cwd=Path(__file__).parents[3],
            env=_environ(),
            start_new_session=True,  # Ctrl-C is for us: we stop the service when the job has been seen to
        )
    told = asyncio.create_task(_pass_on(child, say))
    try:
        yield await _until_up(child, state)
    finally:
        await _stop(child)
        await told


def _log(state: Path) -> TextIO:
    make_state(state)
    return open_in_state(state / LOG, "w")


def _environ() -> dict[str, str]:
    """Ours, without what would have the service start in another place than the one asked for."""
    elsewhere = ("JOBYARD_STATE_DIR", "JOBYARD_PORT", "JOBYARD_SSH_PORT")
    return {name: value for name, value in os.environ.items() if name not in elsewhere}


async def _pass_on(child: asyncio.subprocess.Process, say: Say) -> None:
    """What the service tells people, told on."""
    if child.stdout is None:
        raise RuntimeError("the service was started without a pipe")
    async for line in child.stdout:
        say(f"  {line.decode(errors='replace').rstrip()}")


async def _until_up(child: asyncio.subprocess.Process, state: Path) -> Up:
    deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
    while True:
        up = where.read_up(state)
        if up is not None:
            return up
        if child.returncode is not None:
            raise Unavailable(f"the service did not start: {_last_line(state / LOG)}")
        if asyncio.get_running_loop().time() > deadline:
            raise Unavailable(f"the service did not start within {START_TIMEOUT_S:.0f} s; see {state / LOG}")
        await asyncio.sleep(_POLL_S)


async def _stop(child: asyncio.subprocess.Process) -> None:
    """Asks it to stop as Ctrl-C would; kills its group only if it does not."""
    if child.returncode is not None:
        return
    child.send_signal(signal.SIGINT)
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await child.wait()
    except TimeoutError:
        os.killpg(child.pid, signal.SIGKILL)
        await child.wait()


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else f"it wrote nothing to {log}"

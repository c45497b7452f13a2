"""A real service, started as users start it, and the real command line against it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.local import engine_api, processes, throwaway
from service.local.docker import DockerEngine
from tests.support.waiting import until

PROGRAM = (sys.executable, "-m", "service")
START_DEADLINE_S = 120.0
ANSWER_DEADLINE_S = 120.0


@dataclass(frozen=True)
class Said:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Service:
    """A running service: its state directory and what its `up.json` says."""

    state: Path
    up: dict[str, Any]

    async def cli(self, *words: str, **environ: str) -> Said:
        return await cli(*words, state=self.state, **environ)

    def start(self, *words: str) -> AbstractAsyncContextManager[Process]:
        """A command that goes on, at most until the context ends."""
        return started(*words, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=environment(self.state))


def environment(state: Path, **changed: str) -> dict[str, str]:
    """Ours, without what would lead to another service, and without a size that is no terminal's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JOBYARD_")}
    for name in ("DATABASE_URL", "COLUMNS", "LINES"):
        kept.pop(name, None)
    return kept | {"JOBYARD_STATE_DIR": str(state)} | changed


@asynccontextmanager
async def started(*words: str, **settings: Any) -> AsyncIterator[Process]:
    """A process that nothing of is left when the context ends, however it does: neither it nor its children.

    It has a session of its own, so that all of it can be ended. `program` is what gets the words: ours, if
    none is named; the other settings are those of `create_subprocess_exec`.
    """
    program = settings.pop("program", PROGRAM)
    process = await asyncio.create_subprocess_exec(*program, *words, start_new_session=True, **settings)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):  # all of it has ended, as it should have
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def cli(*words: str, state: Path, **environ: str) -> Said:
    """Runs one command to its end."""
    async with (
        started(
            *words, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=environment(state, **environ)
        ) as process,
        asyncio.timeout(ANSWER_DEADLINE_S),
    ):
        out, err = await process.communicate()
    said = Said(process.returncode or 0, out.decode(), err.decode())
    assert "Traceback" not in said.err, said.err
    return said


@contextmanager
def service(state: Path, *words: str, **environ: str) -> Iterator[Service]:
    """`python -m service up` in `state`, until the context ends."""
    with (state / "up.log").open("ab") as log:
        process = subprocess.Popen(
            [*PROGRAM, "up", "--state", str(state), "--port", "0", *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment(state, **environ),
            start_new_session=True,
        )
    file = state / "up.json"
    try:
        asyncio.run(
            until(lambda: file.exists() or process.poll() is not None, START_DEADLINE_S, what="up.json")
        )
        assert process.poll() is None, (state / "up.log").read_text()[-3000:]
        yield Service(state, json.loads(file.read_text()))
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, (state / "up.log").read_text()[-3000:]


def new_state() -> Path:
    """A state directory whose path is short, and where Postgres can go as another user than root."""
    state = Path(tempfile.mkdtemp(prefix="jobyard-tests-"))
    state.chmod(0o755)
    return state


def remove(state: Path) -> None:
    """The state directory, and a dockerd that `up` left to containers which a test did not end."""
    with ThreadPoolExecutor(1) as aside:  # it may be called where a loop runs already
        aside.submit(asyncio.run, _engine_ended(state)).result()
    throwaway.remove(state)


async def _engine_ended(state: Path) -> None:
    left = processes.adopt("dockerd", state / "docker" / "dockerd.pid")
    if left is not None:
        engine = DockerEngine(state, configured=None, say=print, own=True)
        await engine.start()
        await engine_api.remove_all(engine.host)
        await engine.stop()

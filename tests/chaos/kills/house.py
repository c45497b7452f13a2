"""A whole service whose parts can be killed one by one: all of them are this house's own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pytest

from service.local import engine_api, processes, shims
from service.local.docker import DockerEngine
from service.local.objectstore import ObjectStore, free_port
from service.local.postgres import EmbeddedPostgres
from tests import images
from tests.acceptance.running import START_DEADLINE_S, environment
from tests.support.parts import throwaway_state
from tests.support.waiting import until

Part = Literal["api", "supervisor", "postgres", "engine", "store"]
PARTS: tuple[Part, ...] = ("api", "supervisor", "postgres", "engine", "store")
_WORKER = b"service.local.workers"
_AGAIN_S = 0.2
_SERVICE = (sys.executable, "-m", "service", "up")
#: Everything is tried again soon and often: a part is away for seconds, and again and again.
SETTINGS = {
    "JOBYARD_STOP_GRACE_S": "1",
    "JOBYARD_POLL_S": "0.5",
    "JOBYARD_RETRY_S": "0.2",
    "JOBYARD_STORE_ATTEMPTS": "1000",
    "JOBYARD_NODE_CPUS": "16",
    "JOBYARD_NODE_MEMORY": str(1024**4),
    "JOBYARD_IMAGE_PULL": "missing",
    "JOBYARD_SSH_PORT": "off",
    "JOBYARD_CHECKPOINT_S": "5",
}


class Engine(DockerEngine):
    """With or without live-restore, from its next start on."""

    live_restore = True

    def _command(self, link: Any) -> list[str]:
        words = super()._command(link)
        return words if self.live_restore else [word for word in words if word != "--live-restore"]


@dataclass
class Outage:
    """A part that was away. `spared`: what it did for others went on, as far as the rules promise. `killed`:
    how many of its processes there were to kill."""

    part: Part
    began: datetime
    spared: bool = True
    killed: int = 0
    ended: datetime | None = None


@dataclass
class House:
    """The parts below `root`, and a service in `root/yard`. `program` starts that one."""

    root: Path
    port: int
    program: Sequence[str] = _SERVICE
    api_processes: int = 2
    outages: list[Outage] = field(default_factory=list)
    #: What the service did by itself that it should not have done.
    faults: list[str] = field(default_factory=list)
    told: dict[str, Any] = field(default_factory=dict)
    _process: Process | None = None
    _killed: set[int] = field(default_factory=set)
    _keeper: asyncio.Task[None] | None = None
    _kept: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.postgres = EmbeddedPostgres(self.root, say=self.say)
        self.engine = Engine(self.root, configured=None, say=self.say, own=True)
        self.store = ObjectStore(self.root, say=self.say)

    @property
    def state(self) -> Path:
        return self.root / "yard"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def database_url(self) -> str:
        return self.postgres.url("jobyard")

    @property
    def main(self) -> int | None:
        """The process that supervises and has the API's processes; None while none runs."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    def workers(self) -> list[int]:
        """The API's processes, of this main process alone."""
        if self.main is None:
            return []
        with suppress(OSError):
            found = Path(f"/proc/{self.main}/task/{self.main}/children").read_text().split()
            return [int(pid) for pid in found if _WORKER in processes.command_line(int(pid))]
        return []

    def environment(self) -> dict[str, str]:
        access = self.store.access
        store = {
            "endpoint": access.endpoint,
            "accessKey": access.access_key,
            "secretKey": access.secret_key,
            "region": access.region,
        }
        given = {"DATABASE_URL": self.database_url, "DOCKER_HOST": self.engine.host}
        return environment(self.state, **given, JOBYARD_S3=json.dumps(store), **SETTINGS)

    def said(self) -> str:
        return (self.root / "up.log").read_text(errors="replace")

    def say(self, text: str) -> None:
        """A line for whoever looks into a campaign that failed."""
        with (self.root / "parts.log").open("a") as log:
            log.write(f"{datetime.now(UTC)} {text}\n")

    def keep(self, name: str) -> Path:
        """Copy what was said to where it stays after the house is gone."""
        kept = Path(tempfile.mkdtemp(prefix=f"jobyard-{name}-"))
        logs = [*self.root.glob("*.log"), self.root / "docker" / "dockerd.log", *self.root.glob("*.jsonl")]
        for log in filter(Path.exists, logs):
            shutil.copy(log, kept)
        return kept

    # -- the service --------------------------------------------------------------------------------

    async def open(self) -> None:
        """Everything, for the first time."""
        await asyncio.gather(self.postgres.start(), self.engine.start(), self.store.start())
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DOCKER_HOST", self.engine.host)
            await asyncio.to_thread(images.import_busybox)
        self._kept.set()
        self._keeper = asyncio.create_task(self._keep())
        await self.ready()

    async def ready(self) -> None:
        """Return when the process that runs now has told where it is."""

        def is_told() -> bool:
            with suppress(FileNotFoundError, json.JSONDecodeError):
                self.told = json.loads((self.state / "up.json").read_text())
                return bool(self.told["pid"] == self.main)
            return False

        await until(is_told, START_DEADLINE_S, what=f"up.json; {self.root / 'up.log'}")

    async def _keep(self) -> None:
        """Start the service whenever it does not run, as whatever keeps services on a machine does."""
        while True:
            await self._kept.wait()
            with (self.root / "up.log").open("ab") as log:
                words = ["--state", str(self.state), "--port", str(self.port)]
                self._process = process = await asyncio.create_subprocess_exec(
                    *self.program,
                    *words,
                    *("--api-workers", str(self.api_processes)),
                    stdin=DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=self.environment(),
                    start_new_session=True,
                )
            code = await process.wait()
            if process.pid not in self._killed and self._was_ready(process.pid):
                self.faults.append(f"the service ended by itself with {code}")
            await asyncio.sleep(_AGAIN_S)

    def _was_ready(self, pid: int) -> bool:
        with suppress(FileNotFoundError, json.JSONDecodeError):
            return bool(json.loads((self.state / "up.json").read_text())["pid"] == pid)
        return False

    async def runs(self, program: Sequence[str], api_processes: int) -> None:
        """Another program in the place of the service; returns when it is ready."""
        outage = self.kill("supervisor")
        self.program, self.api_processes = program, api_processes
        await self.bring_back(outage)
        await self.ready()

    # -- killing, and bringing back -----------------------------------------------------------------

    def kill(self, part: Part, *, spared: bool = True, all_of_it: bool = False) -> Outage:
        """SIGKILL, by pid. `spared`: whether an engine keeps its containers as it comes back.
        `all_of_it`: every process of the API."""
        outage = Outage(part, datetime.now(UTC), spared)
        if part == "api":
            for pid in self.workers()[: None if all_of_it else 1]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    outage.killed += 1
        elif part == "supervisor":
            self._kept.clear()
            if self.main is not None:
                self._killed.add(self.main)
                os.kill(self.main, signal.SIGKILL)
                outage.killed = 1
        elif (process := self._process_of(part)) is not None:
            process.send(signal.SIGKILL)
            outage.killed = 1
        self.outages.append(outage)
        return outage

    def _process_of(self, part: Part) -> Any:
        name = {"postgres": "postgres.pid", "engine": "docker/dockerd.pid", "store": "s3.pid"}[part]
        return processes.adopt(part, self.root / name)

    def is_there(self, part: Part) -> bool:
        """Whether there is anything of it to be killed."""
        if part == "api":
            return bool(self.workers())
        return self.main is not None if part == "supervisor" else self._process_of(part) is not None

    async def bring_back(self, outage: Outage) -> None:
        """Start it again; returns when it answers. The API's processes come back by themselves."""
        if outage.part == "supervisor":
            self._kept.set()
        elif outage.part == "postgres":
            await self._dead(self.postgres)
            await self.postgres.restart()
        elif outage.part == "store":
            await self._dead(self.store)
            await self.store.restart()
        elif outage.part == "engine":
            await self._dead(self.engine)
            self.engine.live_restore = outage.spared
            await self.engine.restart()
        outage.ended = datetime.now(UTC)

    async def _dead(self, part: Any) -> None:
        await until(part.has_died, what=f"{part.name} has died")

    async def close(self) -> None:
        """The service as Ctrl-C ends it, then the parts, and all that is on the disk."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        process = self._process
        if process is not None and process.returncode is None:
            process.send_signal(signal.SIGINT)
            try:
                async with asyncio.timeout(60):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        if await engine_api.answers(self.engine.host):
            await engine_api.remove_all(self.engine.host)
        await asyncio.gather(self.engine.stop(), self.postgres.stop(), self.store.stop())
        for pid in shims.of(self.engine.exec_root):
            os.kill(pid, signal.SIGKILL)

    # -- the engine, asked directly -----------------------------------------------------------------

    async def asked(self, path: str) -> Any:
        async with engine_api.session(self.engine.host, timeout_s=30) as http, http.get(path) as response:
            response.raise_for_status()
            return await response.json()

    async def containers(self) -> list[str]:
        """The names of all that `docker ps -a` lists."""
        return [each["Names"][0] for each in await self.asked("/containers/json?all=1")]

    async def networks(self) -> list[str]:
        """The names of the networks that projects have."""
        found = await self.asked("/networks")
        return [each["Name"] for each in found if each["Name"].startswith("jobyard")]

    async def volumes(self) -> list[str]:
        return [each["Name"] for each in (await self.asked("/volumes"))["Volumes"] or []]

    def folders(self) -> list[str]:
        """The volumes of runs that are on the disk."""
        return [str(each.relative_to(self.state)) for each in (self.state / "volumes").glob("*/*")]

    def shims(self) -> list[int]:
        """The processes that hold a container of this engine. One that holds none is what an engine without
        live-restore leaves of each container that it finds running and ends."""
        return [shim for shim in shims.of(self.engine.exec_root) if shims.held_by(shim)]


@asynccontextmanager
async def a_house(**more: Any) -> AsyncIterator[House]:
    """A house of its own; nothing is left of it afterwards."""
    with ExitStack() as stack:
        root = throwaway_state(stack)
        (root / "yard").mkdir()
        house = House(root, free_port(), **more)
        try:
            await house.open()
            yield house
        finally:
            await house.close()

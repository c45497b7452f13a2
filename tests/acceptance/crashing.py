"""A service that can be killed at any moment, in front of an engine and a store that can be held up."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import asyncpg

from service.domain.bills.run import Run
from service.domain.events import Event
from service.domain.evolve import evolve
from service.domain.job import Job
from service.ledger import rebuild, verify
from service.ledger.ledger import Ledger
from service.vault import master_key
from tests.acceptance.running import START_DEADLINE_S, environment
from tests.images import docker_socket
from tests.support.waiting import until

STOP_DEADLINE_S = 60.0
MOMENT_DEADLINE_S = 60.0


@dataclass
class Up:
    """`python -m service up` in a session of its own, and its API."""

    process: Process
    state: Path
    told: dict[str, Any]
    http: aiohttp.ClientSession
    ledger: Ledger

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """One call; the status and what was answered."""
        async with self.http.request(method, self.told["url"] + path, json=body) as response:
            text = await response.text()
            return response.status, json.loads(text) if text else None

    async def ok(self, method: str, path: str, body: Any = None) -> Any:
        status, answer = await self.call(method, path, body)
        assert status in (200, 204), (status, answer)
        return answer

    async def submit(self, *command: str, **spec: Any) -> str:
        body = {"image": "jobyard-test/busybox:1", "command": list(command), "resources": {"cpu": 1}, **spec}
        return str((await self.ok("POST", "/v1/job", body))["id"])

    async def reach(self, job: str, *states: str) -> dict[str, Any]:
        """The job as the API answers it, once the ledger has it in one of these states."""
        known: Job | None = None
        following: Any = self.ledger.follow(0, job=UUID(job))
        async with asyncio.timeout(MOMENT_DEADLINE_S), aclosing(following) as pages:
            async for events in pages:
                for event in events:
                    known = evolve(known, event)
                    if known.state in states:
                        found: dict[str, Any] = await self.ok("GET", f"/v1/job/{job}")
                        return found
        raise AssertionError(f"{job} never was {' or '.join(states)}")

    async def kill(self) -> None:
        """`kill -9` of everything in its process group."""
        _kill(self.process)
        await self.process.wait()

    async def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """As Ctrl-C; its exit status."""
        self.process.send_signal(number)
        async with asyncio.timeout(STOP_DEADLINE_S):
            return await self.process.wait()


def _kill(process: Process) -> None:
    os.killpg(process.pid, signal.SIGKILL)  # it is the leader of its group


@dataclass
class Ground:
    """What stays when the service dies: the state directory, the database and the engine."""

    state: Path
    database_url: str
    docker_host: str
    #: Where the program is that runs.
    tree: Path = Path(__file__).parents[2]

    def environment(self, **changed: str) -> dict[str, str]:
        return environment(
            self.state,
            DATABASE_URL=self.database_url,
            DOCKER_HOST=self.docker_host,
            JOBYARD_STOP_GRACE_S="1",
            JOBYARD_POLL_S="0.5",
            JOBYARD_RETRY_S="0.2",
            **changed,
        )

    async def run(self, *words: str, **changed: str) -> Process:
        """`up` with these words; its output is in `up.log`."""
        with (self.state / "up.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "service", "up", "--state", str(self.state), "--port", "0", *words),
                stdin=DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.tree,
                env=self.environment(**changed),
                start_new_session=True,
            )

    def said(self) -> str:
        return (self.state / "up.log").read_text()

    @asynccontextmanager
    async def up(self, *words: str, **changed: str) -> AsyncIterator[Up]:
        """A service that is ready; stopped when the context ends, unless it is dead by then."""
        process = await self.run(*words, **changed)
        file = self.state / "up.json"

        def is_ready() -> bool:
            assert process.returncode is None, self.said()[-3000:]
            try:  # the one before may have left a file, and this one takes it away before it makes its own
                told = file.read_text()
            except FileNotFoundError:
                return False
            return bool(json.loads(told)["pid"] == process.pid)

        try:
            await until(is_ready, START_DEADLINE_S, what="up.json")
            told = json.loads(file.read_text())
            headers = {"Authorization": f"Bearer {told['token']}"}
            async with aiohttp.ClientSession(headers=headers) as http, self.ledger() as ledger:
                up = Up(process, self.state, told, http, ledger)
                yield up
                if process.returncode is None:
                    assert await up.stop() == 0, self.said()[-3000:]
        finally:
            if process.returncode is None:
                _kill(process)
                await process.wait()

    @asynccontextmanager
    async def ledger(self) -> AsyncIterator[Ledger]:
        master = master_key(None, self.state / "master.key")
        async with Ledger.open(self.database_url, master, readers=2) as ledger:
            yield ledger

    async def recorded(self, job: str) -> tuple[list[Event], list[Run]]:
        """All events of a job, and its bills."""
        async with self.ledger() as ledger:
            return await ledger.events(0, job=UUID(job)), await ledger.runs(UUID(job))

    async def verify(self) -> None:
        """The chain holds, and every read model is what the events say."""
        connection = await asyncpg.connect(self.database_url, server_settings={"search_path": "jobyard"})
        try:
            assert (await verify.verify(connection)).events > 0
            compared = await rebuild.verify(connection, [], lambda _: None)
            assert [found.differences for found in compared] == [()] * len(compared)
        finally:
            await connection.close()


class HeldEngine:
    """A unix socket in front of the engine at which the creation of a container can be held up: before the
    engine hears of it, or after it did and before anybody hears the answer."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.hold = ""
        self.reached = asyncio.Event()
        self._servers: list[asyncio.Server] = []

    @property
    def host(self) -> str:
        return f"unix://{self.path}"

    async def __aenter__(self) -> HeldEngine:
        self._servers.append(await asyncio.start_unix_server(self._serve, self.path))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._servers.pop().close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.CancelledError):
            up_reader, up_writer = await asyncio.open_unix_connection(docker_socket())
            silent = asyncio.Event()
            await asyncio.gather(
                self._forward(reader, up_writer, silent), self._back(up_reader, writer, silent)
            )

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, silent: asyncio.Event
    ) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                if self.hold and b"/containers/create" in data.partition(b"\r\n")[0]:
                    when, self.hold = self.hold, ""
                    silent.set()
                    if when == "before":
                        self.reached.set()
                        await reader.read()  # until the client is dead
                        break
                writer.write(data)
                await writer.drain()
        writer.close()

    async def _back(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, silent: asyncio.Event
    ) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                if silent.is_set():
                    self.reached.set()
                    continue
                writer.write(data)
                await writer.drain()
        writer.close()


class Witness:
    """Listens to the engine's own events: which containers were ever made for which job, and each start."""

    def __init__(self) -> None:
        self.created: dict[str, set[str]] = {}
        self.started: dict[str, list[str]] = {}
        self._listening = asyncio.Event()

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[Witness]:
        task = asyncio.create_task(self._listen())
        try:
            await asyncio.wait_for(self._listening.wait(), MOMENT_DEADLINE_S)
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _listen(self) -> None:
        filters = json.dumps({"type": ["container"], "event": ["create", "start"], "label": ["jobyard.job"]})
        connector = aiohttp.UnixConnector(path=docker_socket())
        timeout = aiohttp.ClientTimeout(total=None)
        async with (
            aiohttp.ClientSession("http://docker", connector=connector, timeout=timeout) as http,
            http.get("/events", params={"filters": filters}) as response,
        ):
            self._listening.set()
            async for line in response.content:
                told = json.loads(line)
                job, container = told["Actor"]["Attributes"]["jobyard.job"], told["Actor"]["ID"]
                if told["Action"] == "create":
                    self.created.setdefault(job, set()).add(container)
                else:
                    self.started.setdefault(job, []).append(container)


async def containers(job: str) -> list[dict[str, Any]]:
    """What `docker ps -a` lists of a job."""
    params = {"all": "1", "filters": json.dumps({"label": [f"jobyard.job={job}"]})}
    connector = aiohttp.UnixConnector(path=docker_socket())
    async with (
        aiohttp.ClientSession("http://docker", connector=connector) as http,
        http.get("/containers/json", params=params) as response,
    ):
        found: list[dict[str, Any]] = await response.json()
        return found

"""A yard for the API's tests: a real database, a real ledger, the application on a real port."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import asyncpg
from aiohttp import web
from multidict import CIMultiDict

from service.api.app import KEEP_ALIVE_S, make_app, runner
from service.api.auth import new_value, sha256_of
from service.api.ports import MOST_HELD_BYTES, ApiParts, Hooks
from service.app import BACKLOG, Duty, LiveAddresses, OpenStores, clients_shelf
from service.config import Settings
from service.domain import commands as cmd
from service.domain.events import Info
from service.domain.flavors import DEFAULT_CATALOGUE
from service.domain.weburls import is_address
from service.held import Room
from service.ledger.ledger import Ledger
from service.supervisor.engine.docker import DockerEngine
from service.supervisor.engine.exec import Execs
from service.supervisor.logs.format import NO_TIME, Record, RunLog
from service.supervisor.logs.reader import LogReader
from service.supervisor.logs.writer import LogLimits, LogWriter
from service.vault import MasterKey
from service.webhooks.send import Sender

MASTER = MasterKey(b"m" * 32)
ADMIN, OPERATOR, READER = "administrator", "ai_training_operator", "ai_training_read"
ENGINE = "engine-1"
QUOTA_CPU = 10
MOST_BODY_BYTES = 64 * 1024
SPEC: dict[str, Any] = {"image": "busybox", "resources": {"cpu": 1}}


async def emptied(database: str) -> None:
    """Make a test's ledger new: much faster than a new database. Only a superuser gets past the triggers."""
    connection = await asyncpg.connect(database, server_settings={"search_path": "jobyard"})
    try:
        async with connection.transaction():
            await connection.execute("SET LOCAL session_replication_role = replica")
            for table in (
                *("events", "commands", "folds", "leases", "job_keys", "project_keys", "ledger_head"),
                *("checkpoints", "webhook_lines", "webhook_attempts", "webhook_cursors"),
            ):
                await connection.execute(f"DELETE FROM {table}")
            await connection.execute("INSERT INTO ledger_head DEFAULT VALUES")
    finally:
        await connection.close()


#: How long a connection may say nothing before the client ends its side.
SILENCE_S = 0.1
DEADLINE_S = 20.0


@dataclass
class Answer:
    status: int
    headers: Any
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.raw)


def answers(received: bytes) -> list[Answer]:
    """Every whole answer in what a connection received, `100 Continue` left out. None may be to a HEAD."""
    found = []
    while received:
        head, end, rest = received.partition(b"\r\n\r\n")
        assert end, received[:200]
        first, *lines = head.decode("latin-1").split("\r\n")
        assert first.startswith("HTTP/1."), first
        pairs = (line.partition(": ") for line in lines)
        headers = CIMultiDict((name, value) for name, _, value in pairs)
        size = int(headers.get("Content-Length", "0"))
        assert len(rest) >= size, "an answer that was cut"
        answer = Answer(int(first.split(" ")[1]), headers, rest[:size])
        received = rest[size:]
        if answer.status != 100:
            found.append(answer)
    return found


@dataclass
class Yard:
    """One API process and its client. `tokens` holds values by name; `url` ends without a slash; `duty` is
    where a test puts the supervisor of this process, if it has one."""

    ledger: Ledger
    settings: Settings
    app: web.Application
    url: str
    http: aiohttp.ClientSession
    tokens: dict[str, str]
    database: str
    duty: list[Duty] = field(default_factory=list)
    #: How many connections are open to it.
    connections: Callable[[], int] = lambda: 0

    async def call(
        self, method: str, path: str, body: Any = None, *, token: str | None = OPERATOR, **more: Any
    ) -> Answer:
        """One request. `token` names one of `tokens`, or is a value; None sends none."""
        headers = dict(more.pop("headers", {}))
        if token is not None:
            headers["Authorization"] = f"Bearer {self.tokens.get(token, token)}"
        if body is not None:
            more["json"] = body
        async with self.http.request(method, f"{self.url}{path}", headers=headers, **more) as response:
            return Answer(response.status, response.headers.copy(), await response.read())

    async def talk(
        self,
        *parts: bytes,
        until: bytes = b"",
        last: bytes = b"",
        says_the_end: bool = True,
        is_answered: bool = True,
    ) -> list[Answer]:
        """Send bytes on a connection of their own, and read until the service closes it.

        Before each further part, `until` is waited for; `last` is sent when the service has begun to
        answer. With `says_the_end`, a service that says nothing for a while is told that nothing more
        comes. That it keeps the connection all the same is a failure. What `is_answered` is waited for until
        it is, as a service that is told of the end answers no more.
        """
        host, _, port = self.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        received = b""
        try:
            async with asyncio.timeout(DEADLINE_S):
                with suppress(OSError):  # it was closed while we spoke: what came before that counts
                    for index, part in enumerate(parts):
                        if index:
                            received += await reader.readuntil(until)
                        writer.write(part)
                    if says_the_end:
                        received += await _heard(reader, DEADLINE_S if is_answered else SILENCE_S)
                        writer.write(last)
                        received += await _heard(reader, SILENCE_S)
                        if not reader.at_eof():
                            writer.write_eof()
                    received += await reader.read()
        finally:
            writer.transport.abort()
        return answers(received)

    async def submit(self, **changed: Any) -> Any:
        """A job that was taken; its JSON."""
        answer = await self.call("POST", "/v1/job", SPEC | changed)
        assert answer.status == 200, answer.raw
        return answer.json

    async def head(self) -> int:
        return (await self.ledger.head()).position

    async def token(
        self, name: str, role: str, *, project: str = "default", selector: str | None = None
    ) -> str:
        """A new token, made in the ledger; its id."""
        value, token_id = await make_token(self.ledger, name, role, project=project, selector=selector)
        self.tokens[name] = value
        return token_id


async def make_token(
    ledger: Ledger, name: str, role: str, *, project: str = "default", selector: str | None = None
) -> tuple[str, str]:
    """A new token's value and its id."""
    value, token_id = new_value(), str(uuid4())
    await ledger.submit(
        cmd.CreateToken(
            project=project,
            token_id=token_id,
            name=name,
            role=role,
            sha256=sha256_of(value),
            label_selector=selector,
        ),
        actor="test",
    )
    return value, token_id


async def _heard(reader: asyncio.StreamReader, within_s: float) -> bytes:
    """What comes first, or nothing when the other side is silent."""
    try:
        async with asyncio.timeout(within_s):
            return await reader.read(65536)
    except TimeoutError:
        return b""


async def no_names(host: str, _port: int) -> list[str]:
    """Only addresses are known: nothing is to be asked of hosts that tests make up."""
    if is_address(host):
        return [host]
    raise socket.gaierror(socket.EAI_NONAME, "no such name")


async def furnish(ledger: Ledger) -> None:
    """The project `default`, another one, and prices."""
    prices = {flavor.id: flavor.hourly_price for flavor in DEFAULT_CATALOGUE.flavors}
    for command in (
        cmd.CreateProject(project="default", name="Default", cpu=QUOTA_CPU, gpu=4),
        cmd.CreateProject(project="other", name="Other", cpu=QUOTA_CPU, gpu=4),
        cmd.SetPrices(prices=prices, currency="EUR"),
    ):
        await ledger.submit(command, actor="test")


@asynccontextmanager
async def opened(
    database: str,
    state: Path,
    tokens: dict[str, str],
    *,
    keep_alive_s: float = KEEP_ALIVE_S,
    furnished: Callable[[web.Application], None] | None = None,
    held: Room | None = None,
    **changes: Any,
) -> AsyncIterator[Yard]:
    """One API process on a database: its own ledger, its own port, its own client.

    `furnished` may add to the application before it is served.
    """
    ours = {"public_url": "http://yard.test", "ssh_address": "yard.test:8722"}
    settings = Settings(state_dir=state, max_body_bytes=MOST_BODY_BYTES, **(ours | changes))
    async with AsyncExitStack() as stack:
        ledger = await stack.enter_async_context(Ledger.open(database, MASTER))
        shelf = clients_shelf(settings)
        stack.push_async_callback(shelf.close)
        logs = LogReader(settings.logs_dir, poll_s=0.05)
        execs = Execs()
        engine = DockerEngine()
        stack.push_async_callback(execs.close)
        stack.push_async_callback(engine.close)
        duty: list[Duty] = []
        stores = OpenStores(ledger, shelf, settings)
        app = make_app(
            ApiParts(
                ledger,
                settings,
                logs,
                stores,
                execs,
                LiveAddresses(engine),
                lambda: duty[-1] if duty else None,
                Hooks(Sender(settings.webhook_networks, settings.webhook_ca, resolve=no_names)),
                held or Room(MOST_HELD_BYTES),
            )
        )
        if furnished is not None:
            furnished(app)
        serving = runner(app, keep_alive_s=keep_alive_s)
        await serving.setup()
        stack.push_async_callback(serving.cleanup)
        site = web.TCPSite(serving, "127.0.0.1", 0, backlog=BACKLOG)
        await site.start()
        port, server = serving.addresses[0][1], serving.server
        assert server is not None
        connector = aiohttp.TCPConnector(limit=0)
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        yield Yard(
            ledger,
            settings,
            app,
            f"http://127.0.0.1:{port}",
            http,
            tokens,
            database,
            duty,
            lambda: len(server.connections),
        )


class Supervision:
    """What a supervisor reports of runs, without one."""

    def __init__(self, yard: Yard, project: str = "default") -> None:
        self._yard, self._project = yard, project

    async def lease(self) -> None:
        assert await self._yard.ledger.take_lease(ENGINE, "test", 60.0) is not None

    async def _say(self, kind: type[cmd.RunCommand], job: str, run: int, **fields: Any) -> None:
        command = kind(project=self._project, engine=ENGINE, epoch=1, job=UUID(job), run=run, **fields)
        await self._yard.ledger.submit(command, actor="supervisor")

    async def running(
        self, job: str, run: int = 1, *, since_s: float = 0.0, absent: bool = False, container: str = "c1"
    ) -> None:
        """The run has a container since `since_s` ago, or since it was PENDING if that is later."""
        await self._say(cmd.PlaceRun, job, run, node="local")
        if absent:
            await self._say(cmd.AdoptRun, job, run, absent_since=datetime.min.replace(tzinfo=UTC))
        await self._say(cmd.ReportPrepared, job, run)
        at = datetime.now(UTC) - timedelta(seconds=since_s)
        await self._say(
            cmd.ReportStarted,
            job,
            run,
            started_at=at,
            container_id=container,
            image_id="sha256:1",
            ip="172.18.0.2",
        )

    async def lost(self, job: str, code: str, *, prepared: bool = True, killed: bool = False) -> None:
        """The job's first run ends before anybody heard that its process began, for this reason."""
        await self._say(cmd.PlaceRun, job, 1, node="local")
        if prepared:
            await self._say(cmd.ReportPrepared, job, 1)
        if killed:
            assert (await self._yard.call("PUT", f"/v1/job/{job}/kill")).status == 204
        await self._say(cmd.FailRun, job, 1, info=Info(code, "It is gone."))

    async def ended(self, job: str, run: int = 1, code: int = 0, *, kept: bool = False) -> None:
        at = datetime.now(UTC)
        await self._say(cmd.ReportExited, job, run, finished_at=at, exit_code=code, oom_killed=False)
        problem = Info("push-failed", "The store did not take it.") if kept else None
        await self._say(cmd.FinalizeRun, job, run, problem=problem, volumes_kept=kept)


class Printer:
    """Writes a run's log as the keeper does."""

    def __init__(self, yard: Yard, job: str, run: int = 1) -> None:
        self._writer = LogWriter(RunLog(yard.settings.logs_dir, UUID(job), run), LogLimits())

    def line(self, text: str) -> None:
        at = datetime.now(UTC)
        self._writer.append(Record(f"{at:%Y-%m-%dT%H:%M:%S.%f}000Z", "1", text.encode()))
        self._writer.flush()

    def end(self) -> None:
        self._writer.finish(Record(NO_TIME, "e", b""))
        self._writer.close()


async def gathered(count: int, make: Any) -> list[Any]:
    """`count` of them at once."""
    return list(await asyncio.gather(*(make(index) for index in range(count))))


class Loop:
    """Hypothesis is synchronous; the yard lives in one loop of its own meanwhile."""

    def __init__(self, database: str, state: Path) -> None:
        self._runner = asyncio.Runner()
        self._life = self._open(database, state)
        self.yard: Yard = self.run(anext(self._life))

    @staticmethod
    async def _open(database: str, state: Path) -> AsyncIterator[Yard]:
        async with opened(database, state, {}) as yard:
            await furnish(yard.ledger)
            await yard.token(OPERATOR, OPERATOR)
            yield yard

    def run(self, work: Any) -> Any:
        async def awaited() -> Any:
            return await work

        return self._runner.run(awaited())

    def close(self) -> None:
        self.run(anext(self._life, None))
        self._runner.close()

"""A yard for the API's tests: a real database, a real ledger, the application on a real port."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import asyncpg
from aiohttp import web

from service.api.app import make_app, runner
from service.api.auth import new_value, sha256_of
from service.api.ports import ApiParts
from service.app import OpenStores
from service.config import Settings
from service.domain import commands as cmd
from service.domain.events import Info
from service.domain.flavors import DEFAULT_CATALOGUE
from service.ledger.ledger import Ledger
from service.supervisor.data.shelf import Shelf
from service.supervisor.logs.format import NO_TIME, Record, RunLog
from service.supervisor.logs.reader import LogReader
from service.supervisor.logs.writer import LogLimits, LogWriter
from service.vault import MasterKey

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
            for table in ("events", "commands", "folds", "leases", "project_keys", "ledger_head"):
                await connection.execute(f"DELETE FROM {table}")
            await connection.execute("INSERT INTO ledger_head DEFAULT VALUES")
    finally:
        await connection.close()


@dataclass
class Answer:
    status: int
    headers: Any
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.raw)


@dataclass
class Yard:
    """One API process and its client. `tokens` holds values by name; `url` ends without a slash."""

    ledger: Ledger
    settings: Settings
    app: web.Application
    url: str
    http: aiohttp.ClientSession
    tokens: dict[str, str]
    database: str

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
        value, token_id = new_value(), str(uuid4())
        await self.ledger.submit(
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
        self.tokens[name] = value
        return token_id


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
async def opened(database: str, state: Path, tokens: dict[str, str]) -> AsyncIterator[Yard]:
    """One API process on a database: its own ledger, its own port, its own client."""
    settings = Settings(state_dir=state, max_body_bytes=MOST_BODY_BYTES, public_url="http://yard.test")
    async with AsyncExitStack() as stack:
        ledger = await stack.enter_async_context(Ledger.open(database, MASTER))
        shelf = Shelf()
        stack.push_async_callback(shelf.close)
        logs = LogReader(settings.logs_dir, poll_s=0.05)
        app = make_app(ApiParts(ledger, settings, logs, OpenStores(ledger, shelf)))
        serving = runner(app)
        await serving.setup()
        stack.push_async_callback(serving.cleanup)
        site = web.TCPSite(serving, "127.0.0.1", 0)
        await site.start()
        port = serving.addresses[0][1]
        connector = aiohttp.TCPConnector(limit=0)
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        yield Yard(ledger, settings, app, f"http://127.0.0.1:{port}", http, tokens, database)


class Supervision:
    """What a supervisor reports of runs, without one."""

    def __init__(self, yard: Yard) -> None:
        self._yard = yard

    async def lease(self) -> None:
        assert await self._yard.ledger.take_lease(ENGINE, "test", 60.0, locked=False) is not None

    async def _say(self, kind: type[cmd.RunCommand], job: str, run: int, **fields: Any) -> None:
        command = kind(project="default", engine=ENGINE, epoch=1, job=UUID(job), run=run, **fields)
        await self._yard.ledger.submit(command, actor="supervisor")

    async def running(self, job: str, run: int = 1, *, since_s: float = 0.0) -> None:
        """The run has a container since `since_s` ago, or since it was PENDING if that is later."""
        await self._say(cmd.PlaceRun, job, run, node="local")
        await self._say(cmd.ReportPrepared, job, run)
        at = datetime.now(UTC) - timedelta(seconds=since_s)
        await self._say(
            cmd.ReportStarted,
            job,
            run,
            started_at=at,
            container_id="c1",
            image_id="sha256:1",
            ip="172.18.0.2",
        )

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

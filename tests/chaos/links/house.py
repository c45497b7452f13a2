"""The whole service in this process, every link of it over a line that can be broken."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit
from uuid import UUID, uuid4

import aiohttp
import msgspec
import structlog

from service import app
from service.config import Settings
from service.config.stores import S3Access
from service.ledger.ledger import Ledger
from service.local import first_run
from service.supervisor.data import StoreAccess
from service.supervisor.engine.docker import DockerEngine
from tests.chaos.links import sorts
from tests.chaos.links.line import Address, Line, line
from tests.images import BUSYBOX, docker_socket
from tests.supervisor.world import MASTER, World, _clear, database, settings_of
from tests.support.waiting import until

SOCKET = ".s.PGSQL.5432"
LogLine = MutableMapping[str, Any]


class Log:
    """Every line that is logged, by the house whose tasks logged it."""

    def __init__(self) -> None:
        self.lines: dict[str, list[LogLine]] = {}

    def __call__(self, _logger: object, _method: str, line: LogLine) -> LogLine:
        self.lines.setdefault(line.get("house", ""), []).append(line)
        raise structlog.DropEvent


@contextmanager
def captured() -> Iterator[Log]:
    """All lines of all houses while the context lasts."""
    log, before = Log(), structlog.get_config()
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, log])
    try:
        yield log
    finally:
        structlog.configure(**before)


@dataclass
class House:
    """`world` looks past the lines, at the ledger and the engine themselves."""

    world: World
    postgres: Line
    docker: Line
    store: Line
    client: Line
    access: StoreAccess
    log: list[LogLine]
    http: aiohttp.ClientSession
    straight: str
    duty: app.Duty
    supervised: bool
    keys: dict[str, Any] = field(default_factory=dict)

    @property
    def through(self) -> str:
        """The API's URL over the client's line."""
        return f"http://127.0.0.1:{self.client.address[1]}"

    def logged(self, *events: str, since: int, **fields: Any) -> bool:
        """Whether a line with one of these events and these fields was logged after so many lines."""
        return any(
            entry["event"] in events and all(entry.get(name) == value for name, value in fields.items())
            for entry in self.log[since:]
        )

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        url: str = "",
        timeout_s: float = 60,
        **named: str,
    ) -> tuple[int, Any]:
        headers = {name.replace("_", "-"): value for name, value in named.items()}
        async with self.http.request(
            method,
            (url or self.straight) + path,
            json=body,
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=timeout_s),
        ) as answer:
            return answer.status, await answer.json()

    async def ready(self) -> dict[str, str]:
        """The status of each part, as `/readyz` tells it."""
        _, answer = await self.call("GET", "/readyz")
        return {name: part["status"] for name, part in answer["parts"].items()}

    async def healed(self) -> None:
        """All parts are well again."""

        async def well() -> bool:
            parts = await self.ready()
            return all(parts[name] != "down" for name in parts if name != "supervisor" or self.supervised)

        await until(well, 90, what="ready again")

    async def submit(self, key: str, command: str, *, url: str = "", timeout_s: float = 60) -> str | None:
        """One try of a submit under this key; the job, or None when nobody can tell (503, or no answer).

        Every answer under a key must be the same one.
        """
        body = {"image": BUSYBOX, "command": ["sh", "-c", command], "resources": {"cpu": 1}}
        try:
            status, answer = await self.call(
                "POST", "/v1/job", body, url=url, timeout_s=timeout_s, Idempotency_Key=key
            )
        except (aiohttp.ClientError, TimeoutError, ConnectionError):
            return None
        if status == 503:
            return None
        assert status == 200, answer
        known = self.keys.setdefault(key, answer["id"])
        assert known == answer["id"], "a repeat has another answer"
        return str(known)

    async def submitted(self, command: str = "exit 0", *, key: str = "", url: str = "") -> UUID:
        """Submit until there is an answer, under one key."""
        key = key or uuid4().hex
        found: list[str] = []

        async def answered() -> bool:
            job = await self.submit(key, command, url=url, timeout_s=30)
            found.extend([job] if job else [])
            return bool(found)

        await until(answered, 60, what="an answer to a submit")
        return UUID(found[0])

    async def taken(self) -> dict[UUID, int]:
        """How many submits the ledger has of each job."""
        count: dict[UUID, int] = {}
        for event in await self.world.events():
            if event.type == "JobSubmitted" and event.job is not None:
                count[event.job] = count.get(event.job, 0) + 1
        return count


def postgres_address(url: str) -> Address:
    parts = urlsplit(url)
    host = parse_qs(parts.query).get("host", [parts.hostname or "localhost"])[0]
    return f"{host}/{SOCKET}" if host.startswith("/") else (host, parts.port or 5432)


def line_url(url: str, folder: Path) -> str:
    """The same database, over the line whose socket is in this folder."""
    parts = urlsplit(url)
    return f"postgresql://{parts.username or 'postgres'}@{parts.path}?host={quote(str(folder))}"


@asynccontextmanager
async def house(
    name: str, log: Log, template: str, access: StoreAccess, *, supervised: bool = True, **changes: Any
) -> AsyncIterator[House]:
    """A house of its own ledger, ready; `supervised`: with a supervisor of the engine."""
    folder = Path(tempfile.mkdtemp(prefix="jobyard-links-"))
    settings = msgspec.structs.replace(settings_of(folder / "state"), default_quota_cpu=10_000, **changes)
    settings.state_dir.mkdir()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(asyncio.to_thread, shutil.rmtree, folder, ignore_errors=True)
        url = await stack.enter_async_context(database(template))
        to_postgres = await stack.enter_async_context(
            line(postgres_address(url), sorts.of_postgres, str(folder / SOCKET))
        )
        to_docker = await stack.enter_async_context(
            line(docker_socket(), sorts.of_docker, str(folder / "docker"), sticky=False)
        )
        there = urlsplit(access.endpoint)
        to_store = await stack.enter_async_context(
            line((there.hostname or "", there.port or 80), sorts.of_store)
        )
        reached = replace(access, endpoint=f"http://127.0.0.1:{to_store.address[1]}")
        straight = await stack.enter_async_context(Ledger.open(url, MASTER, readers=2))
        s3 = S3Access(reached.endpoint, reached.access_key, reached.secret_key, reached.region)
        token = await first_run.prepare(straight, settings, s3)
        engine = DockerEngine()
        stack.push_async_callback(engine.close)
        world = World(url, straight, settings, engine)
        stack.push_async_callback(_clear, world)

        structlog.contextvars.bind_contextvars(house=name)
        ledger = await stack.enter_async_context(Ledger.open(line_url(url, folder), MASTER, readers=3))
        duty = app.Duty()
        docker_host = f"unix://{to_docker.address}"
        if supervised:
            await stack.enter_async_context(app.supervision(settings, ledger, docker_host, duty))
        listening = app.listening_socket("127.0.0.1", 0, shared=False)
        port = listening.getsockname()[1]
        await stack.enter_async_context(_served(settings, ledger, listening, docker_host, duty, supervised))
        to_api = await stack.enter_async_context(line(("127.0.0.1", port), sorts.of_client))
        http = await stack.enter_async_context(
            aiohttp.ClientSession(
                headers={"Authorization": f"Bearer {token}"}, connector=aiohttp.TCPConnector(limit=0)
            )
        )
        made = House(
            world,
            to_postgres,
            to_docker,
            to_store,
            to_api,
            access,
            log.lines.setdefault(name, []),
            http,
            f"http://127.0.0.1:{port}",
            duty,
            supervised,
        )
        await made.healed()
        if supervised:
            await until(lambda: duty.at_work, 90)
        yield made


def _served(
    settings: Settings, ledger: Ledger, listening: Any, docker_host: str, duty: app.Duty, supervised: bool
) -> Any:
    return app.api(settings, ledger, listening, docker_host, duty if supervised else None)

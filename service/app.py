"""The composition root: configuration in, running parts out. The only place that knows all of them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from aiohttp import web

from service.api import app as serving
from service.api.ports import ApiParts
from service.api.ports import Store as StorePort
from service.config import Settings
from service.domain.directory import DataStore
from service.domain.gitstores import GitEndpoint, GitLogin
from service.errors import Unavailable
from service.ledger.ledger import Ledger
from service.supervisor.data import git_check
from service.supervisor.data.shelf import Shelf
from service.supervisor.data.web import Web
from service.supervisor.engine.docker import DockerEngine
from service.supervisor.engine.exec import Execs
from service.supervisor.engine.protocol import Engine
from service.supervisor.logs.keeper import LogKeeper
from service.supervisor.logs.reader import LogReader
from service.supervisor.logs.writer import LogLimits
from service.supervisor.store_keys import access_of
from service.supervisor.supervisor import Supervisor

BACKLOG = 1024


class Duty:
    """The supervisor of this process and its engine, as the API of this process asks after them."""

    def __init__(self) -> None:
        self._taken: tuple[Supervisor, Engine] | None = None

    @contextlib.contextmanager
    def taken(self, supervisor: Supervisor, engine: Engine) -> Iterator[None]:
        """While the context lasts, these two do the work."""
        self._taken = (supervisor, engine)
        try:
            yield
        finally:
            self._taken = None

    @property
    def at_work(self) -> bool:
        return self._taken is not None and self._taken[0].ready.is_set()

    async def engine(self) -> str:
        """The id of the engine that answers. Raises `Unavailable`."""
        if self._taken is None:
            raise Unavailable("no supervisor has started")
        return (await self._taken[1].info()).id


class OpenStores:
    """Opens data stores for the API: here their keys are unsealed. `most_asked`: git servers at once."""

    def __init__(self, ledger: Ledger, shelf: Shelf, settings: Settings, most_asked: int = 4) -> None:
        self._ledger = ledger
        self._shelf = shelf
        self._reach = Web(settings.fetch_networks, settings.fetch_ca)
        self._turns = asyncio.Semaphore(most_asked)

    @asynccontextmanager
    async def open(self, project: str, store: DataStore) -> AsyncIterator[StorePort]:
        async with self._shelf.open(await access_of(self._ledger, store)) as opened:
            yield opened

    async def ask_git(self, endpoint: GitEndpoint, login: GitLogin | None) -> tuple[str, ...]:
        async with self._turns:
            return await git_check.check(self._reach, endpoint, login)


class LiveAddresses:
    """Containers' addresses, as their engine has them now."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def ip_of(self, container_id: str) -> str | None:
        found = await self._engine.find(container_id)
        return found.ip if found is not None and found.state == "running" else None


def listening_socket(host: str, port: int, *, shared: bool) -> socket.socket:
    """A bound socket; several processes may share its port when `shared`. Port 0 takes a free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind((host, port))
        made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made


@asynccontextmanager
async def api(
    settings: Settings,
    ledger: Ledger,
    listening: socket.socket,
    docker_host: str,
    duty: Duty | None = None,
) -> AsyncIterator[None]:
    """Serve the API on a socket while the context lasts. `duty`: of this process; None in one without."""
    shelf, execs, engine = Shelf(), Execs(docker_host), DockerEngine(docker_host)
    stores = OpenStores(ledger, shelf, settings)
    parts = ApiParts(
        ledger, settings, LogReader(settings.logs_dir), stores, execs, LiveAddresses(engine), lambda: duty
    )
    runner = serving.runner(serving.make_app(parts))
    await runner.setup()
    try:
        await web.SockSite(runner, listening, backlog=BACKLOG).start()
        yield
    finally:
        await runner.cleanup()
        await shelf.close()
        await execs.close()
        await engine.close()


@asynccontextmanager
async def supervision(
    settings: Settings, ledger: Ledger, docker_host: str, duty: Duty
) -> AsyncIterator[Supervisor]:
    """Supervise the engine at `docker_host` while the context lasts; containers live on afterwards."""
    engine = DockerEngine(docker_host)
    keeper = LogKeeper(engine, settings.logs_dir, limits=LogLimits(settings.log_cap_bytes))
    supervisor = Supervisor(ledger, engine, keeper, settings)
    task = asyncio.create_task(supervisor.run(), name="supervisor")
    try:
        with duty.taken(supervisor, engine):
            yield supervisor
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await keeper.close()
        await engine.close()

"""The composition root: configuration in, running parts out. The only place that knows all of them."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import asyncssh
import msgspec
import structlog
from aiohttp import web

from service.api import app as serving
from service.api.ports import ApiParts, Hooks
from service.api.ports import Store as StorePort
from service.audit.bucket import open_place
from service.audit.signer import Signer
from service.config import Settings
from service.domain.directory import DataStore
from service.domain.gitstores import GitEndpoint, GitLogin
from service.errors import Unavailable
from service.ledger.ledger import Ledger
from service.outward import names
from service.ssh.gateway import gateway
from service.ssh.ports import SshParts
from service.supervisor.data.git import check as git_check
from service.supervisor.data.s3.permits import Permits
from service.supervisor.data.s3.shelf import Shelf
from service.supervisor.data.web import Web
from service.supervisor.engine.docker import DockerEngine
from service.supervisor.engine.exec import Execs
from service.supervisor.engine.protocol import Engine, EngineInfo
from service.supervisor.inside.containers import Inside
from service.supervisor.logs.keeper import LogKeeper
from service.supervisor.logs.reader import LogReader
from service.supervisor.logs.writer import LogLimits
from service.supervisor.store_keys import access_of
from service.supervisor.supervisor import Supervisor, beyond
from service.vault import SigningKey
from service.webhooks.deliverer import Deliverer
from service.webhooks.send import Sender

#: Connections that the kernel keeps until they are taken, as far as its `somaxconn` allows.
#: Who finds no room there tries again after a second or more: clients of many streams come back all at once.
BACKLOG = 4096
#: Descriptors of a process that are not for the API's clients: database, engine, stores, logs, SSH.
OWN_DESCRIPTORS = 1024
#: So long a client's call waits until a store's large answer may be read: all its attempts are within the
#: time that a listing has.
STORE_TURN_S = 10.0

_log = structlog.get_logger()


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
        return (await self._info()).id

    async def version(self) -> str:
        """Of the engine that answers. Raises `Unavailable`."""
        return (await self._info()).version

    async def beyond(self, settings: Settings) -> list[str]:
        """What is on offer and not there, in words. Raises `Unavailable`."""
        return beyond(await self._info(), settings)

    async def _info(self) -> EngineInfo:
        if self._taken is None:
            raise Unavailable("no supervisor has started")
        return await self._taken[1].info()


class OpenStores:
    """Opens data stores for the API: here their keys are unsealed. `most_asked`: git servers at once."""

    def __init__(self, ledger: Ledger, shelf: Shelf, settings: Settings, most_asked: int = 4) -> None:
        self._ledger = ledger
        self._shelf = shelf
        self._reach = Web(settings.fetch_networks, settings.fetch_ca)
        self._turns = asyncio.Semaphore(most_asked)

    @asynccontextmanager
    async def open(self, project: str, store: DataStore) -> AsyncIterator[StorePort]:
        access = await access_of(self._ledger, store)
        with names.asked_by(project):
            async with self._shelf.open(access) as opened:
                yield opened

    async def ask_git(self, endpoint: GitEndpoint, login: GitLogin | None) -> tuple[str, ...]:
        async with self._turns:
            return await git_check.check(self._reach, endpoint, login)


def clients_shelf(settings: Settings) -> Shelf:
    """For what clients ask of stores. The supervisor has another one, also where it is in this process: no
    client's listing takes a pull's turn."""
    return Shelf(allow=settings.store_networks, permits=Permits(wait_s=STORE_TURN_S))


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


def room_for(connections: int) -> int:
    """How many connections there are file descriptors for, after asking the system for as many as it takes:
    were they used up, neither Postgres nor Docker could be reached any more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OWN_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    fitting = max(soft - OWN_DESCRIPTORS, soft // 2)
    _log.warning("fewer connections than set", connections=fitting, set=connections, descriptors=soft)
    return fitting


@asynccontextmanager
async def api(
    settings: Settings,
    ledger: Ledger,
    listening: socket.socket,
    docker_host: str,
    duty: Duty | None = None,
) -> AsyncIterator[None]:
    """Serve the API on a socket while the context lasts. `duty`: of this process; None in one without."""
    settings = msgspec.structs.replace(settings, max_connections=room_for(settings.max_connections))
    shelf, execs, engine = clients_shelf(settings), Execs(docker_host), DockerEngine(docker_host)
    stores = OpenStores(ledger, shelf, settings)
    hooks = Hooks(Sender(settings.webhook_networks, settings.webhook_ca))
    deliverer = Deliverer(ledger, hooks.sender, tally=hooks.tally)
    logs, addresses = LogReader(settings.logs_dir), LiveAddresses(engine)
    parts = ApiParts(ledger, settings, logs, stores, execs, addresses, lambda: duty, hooks)
    runner = serving.runner(serving.make_app(parts))
    await runner.setup()
    delivering = asyncio.create_task(deliverer.run(), name="webhooks")
    try:
        await web.SockSite(runner, listening, backlog=BACKLOG).start()
        with ledger.keys.forgotten_with(shelf.forget):
            yield
    finally:
        delivering.cancel()
        await asyncio.wait([delivering])
        await runner.cleanup()
        await shelf.close()
        await execs.close()
        await engine.close()


@asynccontextmanager
async def ssh(
    ledger: Ledger, listening: socket.socket, docker_host: str, key: asyncssh.SSHKey
) -> AsyncIterator[None]:
    """Serve SSH into jobs' containers on a socket while the context lasts."""
    execs, inside = Execs(docker_host), Inside(docker_host)
    try:
        async with gateway(SshParts(ledger, execs, inside, key), listening):
            yield
    finally:
        await execs.close()
        await inside.close()


@asynccontextmanager
async def supervision(
    settings: Settings, ledger: Ledger, docker_host: str, duty: Duty
) -> AsyncIterator[Supervisor]:
    """Supervise the engine at `docker_host` while the context lasts; containers live on afterwards."""
    engine = DockerEngine(docker_host)
    keeper = LogKeeper(engine, settings.logs_dir, limits=LogLimits(settings.log_cap_bytes))
    shelf = Shelf(allow=settings.store_networks)
    supervisor = Supervisor(ledger, engine, keeper, settings, shelf)
    task = asyncio.create_task(supervisor.run(), name="supervisor")
    try:
        with duty.taken(supervisor, engine), ledger.keys.forgotten_with(shelf.forget):
            yield supervisor
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await keeper.close()
        await engine.close()


@asynccontextmanager
async def checkpoints(settings: Settings, ledger: Ledger, key: SigningKey, duty: Duty) -> AsyncIterator[None]:
    """Sign checkpoints of the ledger while the context lasts, and while the supervisor here is on duty."""
    place = open_place(settings.checkpoints, settings.checkpoint_s3)
    signer = Signer(ledger, place, key, settings, lambda: duty.at_work)
    task = asyncio.create_task(signer.run(), name="checkpoints")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await place.close()

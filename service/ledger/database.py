"""Connections to Postgres: one way to make them, with the service's role and schema.

Driver errors leave this package as `Unavailable`; everything else of asyncpg is a programming error.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg

from service.errors import Misconfigured, Unavailable

SCHEMA = "jobyard"
SERVICE_ROLE = "jobyard_service"
#: A link that is cut without an end must be noticed: nothing of the service waits longer for an answer.
CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 8.0
#: So long a connection of a pool may take to be ready for the next one.
GIVE_BACK_S = 1.0
#: What an administrator asks for takes longer. Migrations and rebuilds are `patient`: of a large ledger a
#: single statement may take minutes, or wait for as long for who does the same.
ADMIN_TIMEOUT_S = 30.0
#: There the kernel looks for the other end: after so many seconds of silence, so often, and so many times in
#: vain; and what was sent has to have come there in as many milliseconds as that takes. The server does so
#: too, as in `bound` (ledger.sql).
_KEEPALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 11_000}
_WATCHED = {"tcp_keepalives_idle": "5", "tcp_keepalives_interval": "2", "tcp_keepalives_count": "3"}
#: So long a transaction that holds a lock may wait for its client. One whose client was stopped, or is behind
#: a link that was cut without an end, would else keep everybody waiting for as long.
IDLE_IN_TRANSACTION_S = 5.0

#: What a lost, refused or restarting server looks like through asyncpg, or one that is only a standby by now.
LOST: tuple[type[Exception], ...] = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # seen when the server is killed in the middle of an answer
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.QueryCanceledError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,
    ConnectionError,
    OSError,
    TimeoutError,
    asyncio.IncompleteReadError,
)

#: The same, also where it was translated already: worth another try.
PASSING: tuple[type[Exception], ...] = (Unavailable, *LOST)


async def connect(url: str, *, admin: bool = False, patient: bool = False) -> asyncpg.Connection:
    """One connection. `admin` keeps the URL's own role, for migrations and rebuilds, which are `patient`."""
    timeout_s = ADMIN_TIMEOUT_S if admin else ANSWER_TIMEOUT_S
    with translated():
        made = await asyncpg.connect(
            url,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=None if patient else timeout_s,
            server_settings=_settings(admin) | (_WATCHED if patient else {}),
        )
        if patient:
            _watch(link_of(made))
    return made


def link_of(connection: Any) -> socket.socket:
    """The socket of a connection."""
    found: socket.socket = connection._transport.get_extra_info("socket")
    return found


def _watch(link: socket.socket) -> None:
    """Have the kernel watch a link. One that leads through the file system needs it not."""
    if link.family == socket.AF_UNIX:
        return
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if (option := getattr(socket, name, None)) is not None:
            link.setsockopt(socket.IPPROTO_TCP, option, value)


class Pool(asyncpg.Pool):
    """One that waits for a connection, and for one that is given back, no longer than for an answer.

    A connection whose question was given up is given back when its end was agreed upon, of which a cut link
    brings no word: whoever asked would hear of it only after as long again.
    """

    def acquire(self, *, timeout: float | None = None) -> Any:
        return super().acquire(timeout=ANSWER_TIMEOUT_S if timeout is None else timeout)

    async def release(self, connection: Any, *, timeout: float | None = None) -> None:
        await super().release(connection, timeout=GIVE_BACK_S if timeout is None else timeout)


@asynccontextmanager
async def pool(url: str, *, most: int) -> AsyncIterator[asyncpg.Pool]:
    """A pool for reads. Writes go through the one writer of the process."""
    with translated():
        made = await Pool(
            url,
            min_size=1,
            max_size=most,
            max_queries=50_000,
            max_inactive_connection_lifetime=300.0,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=ANSWER_TIMEOUT_S,
            server_settings=_settings(admin=False),
            reset=_as_it_is,
            loop=None,
            connection_class=asyncpg.Connection,
            record_class=asyncpg.Record,
        )
    try:
        yield made
    finally:
        await close(made)


async def _as_it_is(_connection: Any) -> None:
    """A reader changes nothing of its session: a reset would cost each read another round trip.

    A transaction that was left open asyncpg ends by itself, before it comes here.
    """


async def close(made: Any) -> None:
    """Close a pool or a connection, and cut it when the server does not answer."""
    try:
        async with asyncio.timeout(5):
            await made.close()
    except LOST:
        made.terminate()


@contextmanager
def translated() -> Iterator[None]:
    """Turn a lost connection into `Unavailable`, and what cannot work into `Misconfigured`."""
    try:
        yield
    except asyncpg.InsufficientPrivilegeError as error:
        said = str(error).partition("\n")[0]  # what follows is a detail of Postgres
        raise Misconfigured(
            f"the database's URL names a role that may not do what is needed: {said}. It must be able to "
            f"create schemas in its database (own it, or GRANT CREATE ON DATABASE … TO <that role>), and "
            f"role {SERVICE_ROLE}; where another deployment of this cluster did that already, an "
            f"administrator must run: GRANT {SERVICE_ROLE} TO <that role> WITH ADMIN OPTION"
        ) from error
    except asyncpg.ClientConfigurationError as error:
        raise Misconfigured(f"the database's URL cannot be used: {error}") from error
    except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
        raise Misconfigured(f"Postgres refused the connection: {error}") from error
    except asyncpg.InvalidParameterValueError as error:
        if SERVICE_ROLE not in str(error):
            raise
        raise Misconfigured(
            f"Postgres knows no role {SERVICE_ROLE}: `jobyard up` makes it when it starts, by the role that "
            "DATABASE_URL names or, where that may not create roles, JOBYARD_MIGRATION_URL"
        ) from error
    except asyncpg.DiskFullError as error:
        raise Unavailable("Postgres has no disk space left") from error
    except LOST as error:
        raise_if_cancelled()
        raise Unavailable(f"Postgres did not answer ({type(error).__name__})") from error


def raise_if_cancelled() -> None:
    """For where a lost connection is taken in: raises `CancelledError` in a task that was cancelled.

    Cancelled within a transaction, the driver rolls back; when that fails, its error takes the place of the
    cancellation, and whoever tries again would never end.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _settings(admin: bool) -> dict[str, str]:
    settings = {"search_path": SCHEMA, "timezone": "UTC", "application_name": "jobyard"}
    return settings if admin else settings | {"role": SERVICE_ROLE}


def milliseconds(seconds: float) -> str:
    """As Postgres' settings take it."""
    return str(round(seconds * 1000))

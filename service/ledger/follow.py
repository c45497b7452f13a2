"""Following the ledger: NOTIFY is a hint, position is the truth, a poll backs it up.

One listening connection a process, on its own and never pooled. It is pinged, because a half-open one
stays silent; while it is away, and after it comes back, followers still poll.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID

import asyncpg
import structlog

from service.domain.events import Event
from service.errors import EventsLost
from service.ledger import read
from service.ledger.database import PASSING, close
from service.ledger.read import BEGINNING, Mark, Portion

CHANNEL = "jobyard"
PING_S = 3.0
PING_TIMEOUT_S = 3.0
POLL_S = 1.0
RECONNECT_S = 0.5

_log = structlog.get_logger()


class Listener:
    """Wakes followers when the head may have moved. `run` keeps the connection; it never ends by itself."""

    def __init__(
        self, connect: Callable[[], Awaitable[asyncpg.Connection]], *, ping_s: float | None = None
    ) -> None:
        """`ping_s`: how often the connection is pinged; None for `PING_S`."""
        self._connect = connect
        self._ping_s = PING_S if ping_s is None else ping_s
        self._waiters: set[asyncio.Event] = set()
        #: How many hints there have been. Look at it, read the ledger, then wait for the next.
        self.hints = 0
        self.connected = asyncio.Event()

    def hint(self) -> None:
        """The ledger may have grown: wake everybody who waits."""
        self.hints += 1
        for waiter in self._waiters:
            waiter.set()

    async def moved(self, since: int, timeout_s: float) -> None:
        """Wait for a hint after the first `since`, at most `timeout_s`; then it is time to look anyway."""
        if self.hints > since:
            return
        waiter = asyncio.Event()
        self._waiters.add(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter.wait()
        except TimeoutError:
            return
        finally:
            self._waiters.discard(waiter)

    async def run(self) -> None:
        while True:
            try:
                await self._listen()
            except PASSING as error:
                _log.warning("listening interrupted", error=type(error).__name__)
            except Exception:  # noqa: BLE001 (without it every follower of the process only polls)
                _log.exception("listening failed; it begins again")
            await asyncio.sleep(RECONNECT_S)

    async def _listen(self) -> None:
        connection = await self._connect()
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        try:
            try:
                async with asyncio.timeout(PING_TIMEOUT_S):
                    await connection.add_listener(CHANNEL, self._notified)
            except TimeoutError:
                connection.terminate()  # a polite end would wait again
                raise
            self.connected.set()
            self.hint()  # what was missed while away is looked for
            while not lost.is_set():
                try:
                    async with asyncio.timeout(self._ping_s):
                        await lost.wait()
                except TimeoutError:
                    await _ping(connection)
        finally:
            self.connected.clear()
            await close(connection)

    def _notified(self, _connection: Any, _pid: int, _channel: str, _payload: object) -> None:
        self.hint()


async def _ping(connection: asyncpg.Connection) -> None:
    """Raise `TimeoutError` when the connection stays silent, and cut it: a polite end would wait again."""
    try:
        async with asyncio.timeout(PING_TIMEOUT_S):
            await connection.fetchval("SELECT 1")
    except TimeoutError:
        connection.terminate()
        raise


async def follow(
    pool: asyncpg.Pool,
    listener: Listener,
    after: int,
    *,
    job: UUID | None = None,
    project: str | None = None,
    poll_s: float = POLL_S,
) -> AsyncIterator[list[Event]]:
    """Every event after a position, in order, each once, for ever. Raises `Unavailable` when cut off.

    A caller that is cut off goes on with the position of the last event it had.
    """
    while True:
        hints = listener.hints
        events = await read.page(pool, after, job=job, project=project)
        if events:
            after = events[-1].position
            yield events
        else:
            await listener.moved(hints, poll_s)


class Had:
    """What a reader had of the ledger: he read all up to `at`, and knows of more from beside his reading."""

    def __init__(self) -> None:
        self.at = BEGINNING
        #: Where the ledger ended when he looked beside his reading, as far as that lies beyond `at`.
        self.ahead: set[Mark] = set()

    def saw(self, end: Mark) -> None:
        """He looked at what the ledger was when it ended there."""
        if end.position > self.at.position:
            self.ahead.add(end)

    def read_to(self, end: Mark) -> None:
        """An event and its hash prove all before it."""
        self.at = end
        self.ahead = {mark for mark in self.ahead if mark.position > end.position}


async def follow_on(
    pool: asyncpg.Pool, listener: Listener, had: Had, *, poll_s: float = POLL_S
) -> AsyncIterator[Portion]:
    """The next events of all after `had.at`, for ever: who has taken a portion in calls `had.read_to`.

    Each look proves that the ledger still has what was had of it. Raises `EventsLost` when it has not, and
    `Unavailable` when cut off.
    """
    while True:
        hints = listener.hints
        portion = await read.portion(pool, had.at)
        ahead = frozenset(had.ahead)
        if portion is None or (ahead and await read.lost(pool, ahead)):
            raise EventsLost(had.at.position)
        if portion.events:
            yield portion
        else:
            await listener.moved(hints, poll_s)

"""Whether the service can do its work: its database and the clock of that, its supervisor, the engine, the
default object store.

Everybody may ask, without a token. So what is told are fixed words of ours, never an error's, and however
many ask, the parts are looked at once a moment.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import asyncpg
import structlog

from service.api import wire
from service.api.ports import ApiParts
from service.api.scope import ROOT_PROJECT
from service.api.wire import Part
from service.domain.behind import MOST_BEHIND_S
from service.errors import JobyardError, KeysErased, Unavailable
from service.ledger.leases import Held

#: The alias under which the object store that the service was started with is kept.
DEFAULT_STORE = "local"
KEPT_S = 1.0
LOOK_TIMEOUT_S = 3.0
#: Why a part is down that can be late alone.
SILENT = "it does not answer"
#: Why the database is, when it can be read alone.
FULL = "it takes no writes: it has no disk space left"

_OTHER_SCHEMA = (
    "its schema is not the one of this version: start `jobyard up` anew, which migrates it or says that "
    "a newer version did"
)
_OK = Part(status="ok")

_log = structlog.get_logger()


def _down(why: str) -> Part:
    return Part(status="down", why=why)


def _not_asked(why: str) -> Part:
    return Part(status="not-asked", why=why)


class Readiness:
    """Looks at the parts; those who ask within a moment share one look."""

    def __init__(self, parts: ApiParts) -> None:
        self._ledger = parts.ledger
        self._stores = parts.stores
        self._on_duty = parts.on_duty
        self._engine_id: str | None = None
        self._turn = asyncio.Lock()
        self._found: wire.Ready | None = None
        self._until = 0.0

    async def now(self) -> wire.Ready:
        """How the parts are, seen at most `KEPT_S` ago."""
        async with self._turn:
            if self._found is None or time.monotonic() >= self._until:
                self._found = await self._look()
                self._until = time.monotonic() + KEPT_S
            return self._found

    async def _look(self) -> wire.Ready:
        database, engine = await asyncio.gather(
            _told("database", self._database), _told("engine", self._engine)
        )
        clock = supervisor = store = _not_asked("the database is not ready")
        if database is _OK:
            clock, supervisor, store = await asyncio.gather(
                _told("clock", self._clock),
                _told("supervisor", self._supervisor),
                _told("store", self._store),
            )
        parts = wire.Parts(database=database, clock=clock, supervisor=supervisor, engine=engine, store=store)
        down = any(part.status == "down" for part in (database, clock, supervisor, engine, store))
        return wire.Ready(status="not-ready" if down else "ready", parts=parts)

    async def _database(self) -> Part:
        if not await self._ledger.migrated():
            return _down(_OTHER_SCHEMA)
        if not await self._ledger.takes_writes():
            return _down(FULL)
        return _OK

    async def _clock(self) -> Part:
        """What is recorded meanwhile has no time of its own: nothing is billed, and no run begins."""
        behind_s = (await self._ledger.clock()).behind_s
        if behind_s > MOST_BEHIND_S:
            return _down(
                f"it is {behind_s:.0f} s behind the ledger's last event: all times stand still, and no run "
                "begins, until it has caught up"
            )
        return _OK

    async def _engine(self) -> Part:
        duty = self._on_duty()
        if duty is None:
            return _not_asked("its supervisor is in another process")
        self._engine_id = await duty.engine()
        return _OK

    async def _supervisor(self) -> Part:
        """In this process: it says so itself, and the ledger has its lease. Elsewhere: the lease alone."""
        duty, leases = self._on_duty(), await self._ledger.leases()
        if duty is not None:
            if not duty.at_work:
                return _down("it has not taken the engine, or has lost it")
            leases = [lease for lease in leases if self._engine_id in (None, lease.engine)]
        if any(lease.held for lease in leases):
            return _OK
        return _down(_unheld(leases))

    async def _store(self) -> Part:
        project = await self._ledger.project(ROOT_PROJECT)
        store = project.data_stores.get(DEFAULT_STORE) if project is not None else None
        if store is None:
            return _not_asked("none is configured")
        try:
            async with self._stores.open(ROOT_PROJECT, store) as opened:
                await opened.check()
        except KeysErased:
            return _down("its keys were erased: start the service anew, or set them again")
        return _OK


def _unheld(leases: list[Held]) -> str:
    if not leases:
        return "none has ever taken an engine"
    return f"none holds the engine; the last one was seen {min(each.seen_s for each in leases):.0f} s ago"


async def _told(name: str, look: Callable[[], Awaitable[Part]]) -> Part:
    """What a look finds, in words that anybody may read; the log has the error's own."""
    looking = asyncio.ensure_future(look())
    try:
        # Not `asyncio.timeout`: behind a link that is cut, the driver gives a connection back only when that
        # is late too, and would keep whoever asks waiting for it.
        await asyncio.wait({looking}, timeout=LOOK_TIMEOUT_S)
        if not looking.done():
            raise TimeoutError
        return looking.result()
    except (JobyardError, TimeoutError, asyncpg.PostgresError) as error:
        silent = isinstance(error, Unavailable | TimeoutError)
        why = SILENT if silent else "it refuses the service"
        _log.warning("part is not ready", part=name, why=why, error=str(error) or type(error).__name__)
        return _down(why)
    finally:
        if not looking.done():
            looking.cancel()
            looking.add_done_callback(_forgotten)


def _forgotten(looking: asyncio.Future[Part]) -> None:
    """Take what a look has come to that nobody waits for any more."""
    if not looking.cancelled():
        looking.exception()

"""The keys: beside the ledger, made when first needed, and destroyed when an event says so.

A project's key is sealed under the master key, a job's under its project's. The event that a key is destroyed
comes first, then the deletion, everywhere: each process follows these events, deletes what it finds to be
there still, and forgets the keys that it holds in memory.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import structlog

from service.domain.spec import Sealed
from service.errors import Erased, Unavailable
from service.ledger.database import close, translated
from service.ledger.follow import Listener
from service.vault import JobKey, MasterKey, ProjectKey, SealingKey, Secret, new_key
from sql import queries

_SQL = queries("keys")
_log = structlog.get_logger()

#: As many keys as a process holds in memory at most.
MOST_KEPT = 10_000
#: At most so often, and at least so often, the ledger is asked for keys that were destroyed.
PAUSE_S = 0.2
LOOK_S = 1.0
#: When the ledger cannot be asked for so long, no key stays in memory.
BLIND_S = 3.0
#: So long after a rewriting in vain the next one waits, and twice as long each time, up to the most: who has
#: the tables may have them for hours (a backup), and who waits for them holds up all who read a key.
REWRITE_PAUSE_S = 1.0
REWRITE_PAUSE_MOST_S = 60.0
#: A job's key whose job never came to be goes after this: its submit was refused long ago.
LEFT_OVER = timedelta(hours=1)
_TIDY_S = 600.0
#: Before the first look: no event has such a hash.
_UNSEEN = b""

Connect = Callable[[], Awaitable[asyncpg.Connection]]


class Keys:
    """Opens and seals secrets of any project and job; remembers the keys it has unwrapped.

    `owner` connects as who owns the tables, to rewrite them after a deletion; None leaves that to Postgres.
    """

    def __init__(self, pool: asyncpg.Pool, master: MasterKey, owner: Connect | None = None) -> None:
        self._pool = pool
        self._master = master
        self._owner = owner
        self._by_project: dict[str, ProjectKey] = {}
        self._by_id: dict[str, SealingKey] = {}
        self._forgotten = 0
        self._listening: list[Callable[[], None]] = []
        self._owed = asyncio.Event()
        self._rewriting = asyncio.Lock()
        #: Before this time of the loop none is begun.
        self._rewrite_at = 0.0
        self._rewrite_pause_s = 0.0

    # -- sealing --------------------------------------------------------------------------------------

    async def of(self, project: str) -> ProjectKey:
        """The project's key, made now if it has none. Two processes that make one agree on the first."""
        known = self._by_project.get(project)
        if known is not None:
            return known
        forgotten = self._forgotten
        with translated():
            record: Any = await self._pool.fetchrow(_SQL.first_key, project)
            if record is None:
                nonce, box = self._master.wrap(project, new_key())
                await self._pool.execute(_SQL.add_key, secrets.token_hex(8), project, nonce, box)
                record = await self._pool.fetchrow(_SQL.first_key, project)
        if record is None:
            raise Unavailable(f"the key of project {project} was destroyed as it was made; try again")
        key = self._project_key(record["id"], project, record["nonce"], record["box"])
        if forgotten == self._forgotten:
            # Nothing was forgotten while the row was on its way, so it is not of a key that is gone.
            self._by_project[project] = key
            self._keep(key)
        return key

    async def of_job(self, project: str, job: UUID) -> JobKey:
        """The job's own key, made now if it has none, under the key that its project has now."""
        over = await self.of(project)
        nonce, box = over.wrap(job, new_key())
        key_id = f"{over.id}.{secrets.token_hex(8)}"
        try:
            with translated():
                record: Any = await self._pool.fetchrow(_SQL.job_key, key_id, job, over.id, nonce, box)
        except asyncpg.ForeignKeyViolationError:
            self.forget()
            raise Unavailable(f"the key of project {project} was destroyed meanwhile; try again") from None
        if record["project_key"] != over.id:
            raise Unavailable(f"the key of job {job} is about to be destroyed with its project's former one")
        return JobKey(record["id"], project, job, over.unwrap(job, record["nonce"], record["box"]))

    async def ids_of_job(self, job: UUID) -> tuple[str, ...]:
        """The ids of the job's own keys: one, or none when it never needed one or it was destroyed."""
        with translated():
            records = await self._pool.fetch(_SQL.job_key_ids, job)
        return tuple(record["id"] for record in records)

    async def ids_of_project(self, project: str) -> tuple[str, ...]:
        """The id of the project's key, if it has one."""
        with translated():
            record: Any = await self._pool.fetchrow(_SQL.first_key, project)
        return () if record is None else (record["id"],)

    # -- opening --------------------------------------------------------------------------------------

    async def open(self, sealed: Sealed) -> Secret:
        """The secret in the clear. Raises `Erased` when its key was destroyed."""
        found = (await self.opened([sealed]))[sealed]
        if found is None:
            raise Erased(f"the key {sealed.key_id} was destroyed: what it sealed is gone")
        return found

    async def opened(self, sealed: Iterable[Sealed]) -> dict[Sealed, Secret | None]:
        """Many secrets at once, with one look for the keys; None for each whose key was destroyed."""
        wanted = list(sealed)
        keys = await self._with_ids({each.key_id for each in wanted})
        return {each: keys[each.key_id].open(each) if each.key_id in keys else None for each in wanted}

    async def _with_ids(self, ids: set[str]) -> dict[str, SealingKey]:
        keys = {key_id: self._by_id[key_id] for key_id in ids if key_id in self._by_id}
        missing = list(ids - keys.keys())
        if not missing:
            return keys
        forgotten = self._forgotten
        with translated():
            records: Any = await self._pool.fetch(_SQL.keys_by_id, missing)
        for record in records:
            key = self._unwrapped(record)
            keys[key.id] = key
            if forgotten == self._forgotten:
                self._keep(key)
        return keys

    def _unwrapped(self, record: Any) -> SealingKey:
        over = self._project_key(record["id"], record["project"], record["nonce"], record["box"])
        if record["job"] is None:
            return over
        job = UUID(int=record["job"].int)
        key = over.unwrap(job, record["job_nonce"], record["job_box"])
        return JobKey(record["job_key"], record["project"], job, key)

    def _project_key(self, key_id: str, project: str, nonce: bytes, box: bytes) -> ProjectKey:
        return ProjectKey(key_id, project, self._master.unwrap(project, nonce, box))

    def _keep(self, key: SealingKey) -> None:
        if len(self._by_id) >= MOST_KEPT:
            self._by_id.clear()
        self._by_id[key.id] = key

    # -- destroying -----------------------------------------------------------------------------------

    def forget(self) -> None:
        """Hold no key in memory; what is on its way from the database is not kept either."""
        self._forgotten += 1
        self._by_project.clear()
        self._by_id.clear()
        for forget in self._listening:
            forget()

    @contextmanager
    def forgotten_with(self, forget: Callable[[], None]) -> Iterator[None]:
        """While the context lasts, `forget` is called whenever keys are forgotten: for whoever holds in
        memory what was opened with them."""
        self._listening.append(forget)
        try:
            yield
        finally:
            self._listening.remove(forget)

    async def destroy_told(self) -> int:
        """Delete every key that an event says is destroyed and that is there still; how many there were."""
        destroyed = await self._destroy()
        if self._owed.is_set() and asyncio.get_running_loop().time() >= self._rewrite_at:
            await self._rewrite()
        return destroyed

    async def _destroy(self) -> int:
        with translated():
            destroyed: int = await self._pool.fetchval(_SQL.destroy_told)
        self.forget()
        if destroyed:
            _log.info("keys destroyed", keys=destroyed)
            self._owed.set()
        return destroyed

    async def rewrite_owed(self) -> None:
        """For ever, and beside `watch`, which must not wait for it: rewrite the tables where that is owed."""
        loop = asyncio.get_running_loop()
        while True:
            await self._owed.wait()
            await asyncio.sleep(max(0.0, self._rewrite_at - loop.time()))
            await self._rewrite()

    async def _rewrite(self) -> None:
        """Leave nothing of deleted rows in the tables' files; what cannot be done now stays owed.

        Postgres copies a deleted row along while any transaction is open that began before its deletion.
        """
        async with self._rewriting:
            if not self._owed.is_set():
                return  # done while we waited for our turn
            self._owed.clear()  # what is deleted from here on is owed anew
            done = False
            try:
                # Without an owner Postgres is set to clean them within its own minutes.
                done = self._owner is None or await self._rewrote(self._owner)
            finally:
                self._note_rewriting(done)

    def _note_rewriting(self, done: bool) -> None:
        if done:
            self._rewrite_at = self._rewrite_pause_s = 0.0
            return
        self._owed.set()
        self._rewrite_pause_s = min(max(REWRITE_PAUSE_S, 2 * self._rewrite_pause_s), REWRITE_PAUSE_MOST_S)
        self._rewrite_at = asyncio.get_running_loop().time() + self._rewrite_pause_s

    async def _rewrote(self, owner: Connect) -> bool:
        try:
            connection = await owner()
            try:
                await connection.execute(_SQL.let_go)
                copied = await _rewritten(connection)
            finally:
                await close(connection)
        except Exception as error:  # noqa: BLE001 (whatever it is, the next try may do it)
            _log.warning("tables of keys not rewritten", error=type(error).__name__)
            return False
        if copied:
            _log.warning("deleted keys kept for older transactions", rows=copied)
        return not copied

    async def watch(self, listener: Listener) -> None:
        """For ever: notice keys that somebody destroyed, and finish what a killed process left undone."""
        loop = asyncio.get_running_loop()
        seen: bytes | None = _UNSEEN
        seen_at, tidied_at, blind = loop.time(), loop.time() - _TIDY_S, False
        while True:
            hints = listener.hints
            try:
                # Where all readers are busy, a look waits for one of them.
                with translated():
                    async with asyncio.timeout(BLIND_S):
                        last: bytes | None = await self._pool.fetchval(_SQL.last_destroyed)
                seen_at, blind = loop.time(), False
                untidy = seen_at - tidied_at >= _TIDY_S
                if last is not None and seen == _UNSEEN:
                    self._owed.set()  # who deleted may have been killed before it rewrote
                if last != seen:
                    self.forget()  # now, as the deletion may have to wait for a reader too
                if last != seen or untidy:
                    await self._destroy()
                    seen = last
                if untidy:
                    with translated():
                        await self._pool.execute(_SQL.destroy_left_over, LEFT_OVER)
                    tidied_at = seen_at
            except Unavailable as error:
                if loop.time() - seen_at > BLIND_S and (self._by_id or not blind):
                    blind = True
                    _log.warning("keys forgotten", error=error.message)
                    self.forget()
            except Exception:  # noqa: BLE001 (without it this process would hold keys that are gone)
                _log.exception("watching for destroyed keys failed; it begins again")
                self.forget()
            await asyncio.sleep(PAUSE_S)
            await listener.moved(hints, LOOK_S)


async def _rewritten(connection: asyncpg.Connection) -> int:
    """Write the tables of keys anew; how many deleted rows had to be copied along.

    Postgres tells that number to people only: it leads the detail of a message, in any language.
    """
    copied: list[int] = []

    def hear(_connection: object, message: Any) -> None:
        if (found := re.match(r"\D*(\d+)", message.detail or "")) is not None:
            copied.append(int(found[1]))

    connection.add_log_listener(hear)
    await connection.execute(_SQL.rewrite)
    return sum(copied)

"""The ledger as the rest of the service knows it: submit commands, read, follow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import asyncpg

from projections.catalogue import FOLDS
from service.domain.bills.run import Run
from service.domain.commands import Command, Submission
from service.domain.directory import PriceBook, Project, Token
from service.domain.events import Event, ExecOpened, JobSubmitted
from service.domain.filters import EventFilter
from service.domain.job import Job
from service.domain.quota import Quota
from service.domain.spec import Sealed
from service.domain.states import LIVE, State
from service.errors import NotFound, Unavailable
from service.ledger import asof, database, leases, read
from service.ledger.commit import Receipt, recalled
from service.ledger.database import translated
from service.ledger.follow import Had, Listener, follow, follow_on
from service.ledger.fresh import FreshJobs
from service.ledger.job_rows import JobRows
from service.ledger.keys import Keys
from service.ledger.labels import labels_at
from service.ledger.leases import Held, Lease
from service.ledger.migrate import is_current
from service.ledger.space import has_space
from service.ledger.stuck import end_stuck
from service.ledger.writer import Connect, Writer
from service.vault import MasterKey
from sql import queries

_SQL, _FRESH = queries("reads"), queries("fresh")
_LIVE = sorted(LIVE)


class Clock(NamedTuple):
    """The database's clock: the time, and by how many seconds it is behind the ledger's last event (else 0).

    Behind it is when it was ahead and was put right. No event is recorded before another, so all times stand
    still until it has caught up.
    """

    now: datetime
    behind_s: float


class Ledger:
    """One process's access to the ledger. Open it with `Ledger.open`."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        writer: Writer,
        listener: Listener,
        keys: Keys,
        connect: Connect,
        owner: Connect | None = None,
    ) -> None:
        self.pool = pool
        #: A connection of one's own, with the service's role; whoever makes it closes it.
        self.connect = connect
        self.listener = listener
        self.keys = keys
        #: Rows of the past that were folded again lately.
        self.folded = asof.Folded()
        self._writer = writer
        self._owner = owner
        self.job_rows = JobRows()
        self._jobs = FreshJobs(pool, self.job_rows)

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, master: MasterKey, *, readers: int = 8) -> AsyncIterator[Ledger]:
        """Connect, and write and listen until the context ends."""

        async def connect() -> asyncpg.Connection:
            return await database.connect(url)

        async with database.pool(url, most=readers) as pool:

            async def owner() -> asyncpg.Connection:
                return await database.connect(url, admin=True)

            listener = Listener(connect)
            writer = Writer(connect, on_append=lambda _events: listener.hint(), owner=owner)
            keys = Keys(pool, master, owner)
            working = (writer.run(), listener.run(), keys.watch(listener), keys.rewrite_owed())
            tasks = [asyncio.create_task(each) for each in working]
            try:
                yield cls(pool, writer, listener, keys, connect, owner)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def submit(
        self,
        command: Command,
        *,
        actor: str,
        command_id: UUID | None = None,
        request_id: str | None = None,
        client_address: str | None = None,
        digest: bytes | None = None,
    ) -> Receipt:
        """Carry out one command. Raises the `Rejected` that refused it, or `Unavailable`."""
        return await self._writer.submit(
            Submission(
                id=command_id or uuid4(),
                command=command,
                actor=actor,
                request_id=request_id,
                client_address=client_address,
                digest=digest,
            )
        )

    async def recalled(self, command_id: UUID, digest: bytes | None) -> Receipt | None:
        """What became of a command, if it was carried out before; no more than `submit` would tell, without
        carrying it out. Raises `Conflict` when it was another one's id, and `Unavailable`."""
        with translated():
            return await recalled(self.pool, command_id, digest)

    # -- reads --------------------------------------------------------------------------------------

    async def head(self) -> read.Head:
        return await read.head(self.pool)

    async def job(self, job: UUID, project: str | None = None) -> Job:
        """One job. Raises `NotFound` when it is not there, deleted, or in another project."""
        found = await self.find_job(job)
        if found is None or found.deleted or project not in (None, found.project):
            raise NotFound(f"there is no job {job}")
        return found

    async def job_now(self, job: UUID) -> tuple[Job, datetime] | None:
        """One job, deleted or not, and the database's time; None when it never was."""
        return await self._jobs.of(job)

    async def job_seen(self, job: UUID) -> tuple[Job, read.Mark]:
        """One job, and where the ledger ended when it was so. Raises as `job`."""
        with translated():
            record: Any = await self.pool.fetchrow(_FRESH.jobs_now, [str(job)])
        found = None if record is None else self.job_rows.job(record["row"])
        if found is None or found.deleted:
            raise NotFound(f"there is no job {job}")
        return found, read.Mark(record["position"], record["hash"])

    async def find_job(self, job: UUID) -> Job | None:
        """One job, deleted or not; None when it never was."""
        found: Job | None = await self._one("status", _SQL.job, str(job))
        return found

    async def jobs_of(self, jobs: Iterable[UUID]) -> list[Job]:
        """Those jobs, deleted or not, that there are."""
        return await self._many("status", _SQL.jobs_of, [str(job) for job in jobs])

    async def job_as_of(self, job: UUID, position: int) -> Job | None:
        """A job as it was right after the event at a position, by the same fold."""
        return await asof.job(self.pool, job, position)

    async def jobs(
        self, project: str, *, states: Iterable[State] | None = None, limit: int, offset: int = 0
    ) -> tuple[list[Job], int]:
        """A page of a project's jobs, newest first, and how many there are in all."""
        wanted = [str(state) for state in states] if states is not None else None
        with translated():
            total = await self.pool.fetchval(_SQL.count_jobs, project, wanted)
        rows = await self._many("status", _SQL.jobs, project, wanted, limit, offset)
        return rows, total

    async def live_jobs(self) -> list[Job]:
        """Every job that has not ended, of all projects, and ended ones with a push ordered."""
        return await self._many("status", _SQL.live_jobs, _LIVE)

    async def quota(self, project: str) -> Quota:
        found: Quota | None = await self._one("quota", _SQL.quota, project)
        if found is None:
            raise NotFound(f"there is no project {project}")
        return found

    async def project(self, project: str) -> Project | None:
        found: Project | None = await self._one("projects", _SQL.project, project)
        return found

    async def projects(self) -> list[Project]:
        return await self._many("projects", _SQL.projects)

    async def token_by_hash(self, sha256: str) -> Token | None:
        """The token whose value has this SHA-256 (hex), revoked or not."""
        found: Token | None = await self._one("tokens", _SQL.token_by_hash, sha256)
        return found

    async def tokens(self, project: str) -> list[Token]:
        return await self._many("tokens", _SQL.tokens, project)

    async def runs(self, job: UUID) -> list[Run]:
        """The bill of each run of a job, in order."""
        return await self._many("billing", _SQL.runs_of_job, str(job))

    async def prices(self) -> PriceBook:
        found: PriceBook | None = await self._one("prices", _SQL.prices)
        return found or PriceBook()

    async def now(self) -> datetime:
        """The database's clock."""
        with translated():
            found: datetime = await self.pool.fetchval(_SQL.now)
        return found

    async def clock(self) -> Clock:
        """The database's clock, and how it stands to the ledger's last event."""
        with translated():
            record: Any = await self.pool.fetchrow(_SQL.clock)
        return Clock(record["now"], record["behind_s"])

    async def open_secret(self, sealed: Sealed) -> str:
        """A sealed secret in the clear; its repr still hides it. Raises `Erased` when its key is gone."""
        return await self.keys.open(sealed)

    async def sealed_under(self, job: UUID) -> frozenset[str]:
        """The ids of all keys that something in a job's history is sealed under."""
        found: set[str] = set()
        async for events in read.through(self.pool, job=job):
            for body in (event.body for event in events):
                if isinstance(body, JobSubmitted):
                    found |= {var.value.key_id for var in body.spec.env}
                elif isinstance(body, ExecOpened):
                    found.add(body.command.key_id)
        return frozenset(found)

    # -- leases -------------------------------------------------------------------------------------

    async def take_lease(
        self, engine: str, holder: str, ttl_s: float, *, gone: Callable[[str], bool] = leases.nobody_knows
    ) -> Lease | None:
        """Take an engine's lease, or None. `gone`: whether the holder before is known to be."""
        try:
            with translated():
                async with self.pool.acquire() as connection:
                    return await leases.take(connection, engine, holder, ttl_s, gone=gone)
        except Unavailable:
            if self._owner is not None:
                await end_stuck(self._owner)
            raise

    async def which_database(self) -> leases.Database:
        """Which one the ledger lies in: a backup of it that was restored beside it is another."""
        if self._owner is None:
            return await leases.database_of(self.pool)
        connection = await self._owner()  # of a role that may see more
        try:
            return await leases.database_of(connection)
        finally:
            await database.close(connection)

    async def renew_lease(self, lease: Lease, ttl_s: float, *, seen: bool = True) -> bool:
        """Hold on to a lease; False when it is no longer ours. `seen`: its runs are looked after."""
        return await leases.renew(self.pool, lease, ttl_s, seen=seen)

    async def release_lease(self, lease: Lease) -> None:
        await leases.release(self.pool, lease)

    async def leases(self) -> list[Held]:
        """Every engine's lease: whether somebody holds it, and who was last seen when."""
        return await leases.held(self.pool)

    async def migrated(self) -> bool:
        """Whether the schema is the one of this version."""
        return await is_current(self.pool)

    async def takes_writes(self) -> bool:
        """Whether Postgres has disk space for them, as far as the writer knows. Raises `Unavailable`.

        Asked of Postgres only when the last write found none: space may have come back with nobody writing
        since, and whoever sends no requests to a service that is not ready would wait for ever.
        """
        if self._writer.found_full and await has_space(self.pool):
            self._writer.found_full = False
        return not self._writer.found_full

    async def events(
        self, after: int = 0, *, limit: int = read.PAGE, job: UUID | None = None, project: str | None = None
    ) -> list[Event]:
        return await read.page(self.pool, after, limit=limit, job=job, project=project)

    async def portion(self, after: read.Mark, *, limit: int = read.PAGE) -> read.Portion | None:
        """The next events of all, of so many bytes; see `read.portion`."""
        return await read.portion(self.pool, after, limit=limit)

    def follow(
        self, after: int, *, job: UUID | None = None, project: str | None = None
    ) -> AsyncIterator[list[Event]]:
        """Every event after a position, in order, each once, for ever."""
        return follow(self.pool, self.listener, after, job=job, project=project)

    def follow_on(self, had: Had) -> AsyncIterator[read.Portion]:
        """Every event after what was had, for ever, while that is still there; see `follow.follow_on`."""
        return follow_on(self.pool, self.listener, had)

    async def look(self, asked: EventFilter, after: int, *, limit: int = read.PAGE) -> read.Looked:
        """What a filter wants after a position, and the cursor to go on from; see `read.look`."""
        return await read.look(self.pool, asked, after, limit=limit)

    async def labels_at(self, events: Sequence[Event]) -> list[Mapping[str, str]]:
        """The labels that each event's job had right after it, in one query."""
        return await labels_at(self.pool, events)

    async def _one(self, fold: str, statement: str, *arguments: Any) -> Any:
        with translated():
            row = await self.pool.fetchval(statement, *arguments)
        return None if row is None else FOLDS[fold].decoder.decode(row)

    async def _many(self, fold: str, statement: str, *arguments: Any) -> list[Any]:
        with translated():
            records = await self.pool.fetch(statement, *arguments)
        decode = FOLDS[fold].decoder.decode
        return [decode(record["row"]) for record in records]

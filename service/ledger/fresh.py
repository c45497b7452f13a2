"""Jobs that are read again and again: kept, and answered from memory when the head proves them fresh.

Whoever asks for a job that is kept waits for one look at the ledger's head that begins after he asked, and
that all who ask meanwhile share. It tells which jobs something has happened to since the look before, in
whatever process: these are dropped, and the others are what a query of their rows would have found. So nobody
is told less than what was committed when he asked; what is saved is the row, its decoding, and what was made
of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from service.domain.ids import text_of
from service.domain.job import Job
from service.ledger.database import translated
from service.ledger.gathered import Gathered
from service.ledger.job_rows import DECODED, JobRows
from service.ledger.kept import Kept
from sql import queries

_SQL = queries("fresh")

#: Of jobs that are kept, at most.
MOST_BYTES = 4 * 1024**2
#: Beside the row: the entry itself, its key.
_OWN_BYTES = 512
#: A look that finds the head further on does not ask what has happened: all jobs are read again.
MOST_EVENTS = 2_000
_HEAD = "head"

_decode = msgspec.json.Decoder(dict[str, int]).decode


class _Ledger(NamedTuple):
    """Which ledger rows are of. Another one (restored, or rebuilt) proves nothing of these."""

    id: UUID
    epoch: int
    rebuilds: int


class FreshJobs:
    """The jobs of one process's ledger. `of` answers as a query would that begins when it is asked."""

    def __init__(self, pool: asyncpg.Pool, job_rows: JobRows, most_bytes: int = MOST_BYTES) -> None:
        self._pool = pool
        self._job_rows = job_rows
        self._rows = Gathered(self._read)
        # One look at a time: each goes on from where the last one was.
        self._looks = Gathered(self._look, at_a_time=1)
        self.kept = Kept[Job](most_bytes)
        #: All that is kept is as it was at this position of this ledger, whose event there has this hash:
        #: after a failover that lost events, others may have brought the ledger to the same position again.
        self._position = 0
        self._hash = b""
        self._ledger: _Ledger | None = None

    async def of(self, job: UUID) -> tuple[Job, datetime] | None:
        """One job, deleted or not, and the database's time; None when it never was."""
        key = text_of(job)
        if self.kept.get(key) is not None:
            now = await self._looks.of(_HEAD)
            found = self.kept.get(key)
            if found is not None and now is not None:
                return found, now
        return await self._rows.of(key)

    async def _look(self, keys: Sequence[str]) -> Mapping[str, datetime]:
        since = self._position
        with translated():
            record: Any = await self._pool.fetchrow(_SQL.moved, since, MOST_EVENTS, self._hash)
        jobs = None if record["jobs"] is None else _decode(record["jobs"])
        self._go_on(record, since, jobs)
        return dict.fromkeys(keys, record["now"])

    def _go_on(self, record: Any, since: int, jobs: dict[str, int] | None) -> None:
        """Be where a look was. `jobs`: the last event of each that had one; None when it did not tell."""
        if _ledger_of(record) != self._ledger or self._position != since or jobs is None:
            self._begin_at(record)
            return
        for key, last in jobs.items():
            found = self.kept.get(key)
            if found is not None and found.position < last:
                self.kept.drop(key)
        self._position, self._hash = record["position"], record["hash"]

    def _begin_at(self, record: Any) -> None:
        self.kept.clear()
        self._ledger = _ledger_of(record)
        self._position, self._hash = record["position"], record["hash"]

    async def _read(self, keys: Sequence[str]) -> dict[str, tuple[Job, datetime]]:
        with translated():
            records = await self._pool.fetch(_SQL.jobs_now, keys)
        found = {}
        for record in records:
            job = self._job_rows.job(record["row"])
            found[record["key"]] = job, record["now"]
            self._keep(record, job)
        return found

    def _keep(self, record: Any, job: Job) -> None:
        """Keep a row that is no older than where the last look was: what it told of would else be missed."""
        if not len(self.kept):
            self._begin_at(record)
        if _ledger_of(record) == self._ledger and record["position"] >= self._position:
            self.kept.put(record["key"], job, DECODED * len(record["row"]) + _OWN_BYTES)


def _ledger_of(record: Any) -> _Ledger:
    return _Ledger(record["ledger_id"], record["epoch"], record["rebuilds"])

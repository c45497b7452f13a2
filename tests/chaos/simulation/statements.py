"""What each statement of the ledger answers, by the statement itself."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

from sql import queries
from tests.chaos.simulation.locks import RowLock
from tests.chaos.simulation.postgres import LEDGER_ID, Changes, Postgres, Record

_LEDGER, _FOLDS, _LEASES = queries("ledger"), queries("folds"), queries("leases")
_READS, _KEYS, _FRESH = queries("reads"), queries("keys"), queries("fresh")
#: The ping of a listener is a statement of its own.
_PING = "SELECT 1"

Answer = list[Record]


class Statements:
    """Of a session: what it sees is what is committed, and its own changes."""

    _server: Postgres
    _idle_most_s: float
    _statement_most_s: float

    async def _locked(self, lock: RowLock) -> None:
        """The session's until its transaction ends. Raises what Postgres does after a wait in vain."""
        raise NotImplementedError

    async def _bound(self, _changes: Changes, args: Any) -> Answer:
        self._idle_most_s = float(args[0]) / 1000
        self._statement_most_s = float(args[1]) / 1000
        return []

    async def _bound_lease(self, _changes: Changes, args: Any) -> Answer:
        # Of the transaction alone, and a pool's connection has no other.
        self._idle_most_s = float(args[0]) / 1000
        return []

    async def _one(self, _changes: Changes, _args: Any) -> Answer:
        return [Record(one=1)]

    async def _take_head(self, changes: Changes, args: Any) -> Answer:
        server = self._server
        await self._locked(server.head_lock)
        now = max(server.clock(), server.recorded_at)
        return [
            Record(
                at=server.position, rebuilds=server.rebuilds, hash=server.hash, now=now,
                rows=await self._load(changes, args[:2]), known=await self._known_commands(changes, args[2:]),
            )
        ]  # fmt: skip

    async def _head(self, _changes: Changes, _args: Any) -> Answer:
        server = self._server
        return [
            Record(
                ledger_id=LEDGER_ID, epoch=1, position=server.position, hash=server.hash,
                recorded_at=server.recorded_at,
            )
        ]  # fmt: skip

    async def _append(self, changes: Changes, args: Any) -> Answer:
        await self._locked(self._server.head_lock)
        self._server.append(changes, args)
        return [Record(pg_notify="")]

    async def _keep(self, changes: Changes, args: Any) -> Answer:
        self._server.keep(changes, args[0])
        return []

    async def _load(self, changes: Changes, args: Any) -> Answer:
        return [
            Record(fold=fold, key=key, row=row)
            for fold, key in zip(*args, strict=True)
            if (row := self._row(changes, fold, key)) is not None
        ]

    def _row(self, changes: Changes, fold: str, key: str) -> str | None:
        return changes.folds.get((fold, key)) or self._server.folds.get((fold, key))

    async def _known_commands(self, changes: Changes, args: Any) -> Answer:
        known = self._server.commands
        found = (changes.commands.get(each) or known.get(each) for each in args[0])
        return [each for each in found if each is not None]

    async def _command(self, changes: Changes, args: Any) -> Answer:
        return await self._known_commands(changes, ([args[0]],))

    async def _read_after(self, changes: Changes, args: Any) -> Answer:
        return self._server.read_after(changes, *args)

    async def _read_portion(self, changes: Changes, args: Any) -> Answer:
        after, limit, _most_bytes = args
        return self._server.read_after(changes, after, self._server.position, limit)

    async def _still(self, _changes: Changes, args: Any) -> Answer:
        server = self._server
        return [Record(position=server.position, hash=server.hash, holds=self._has(*args))]

    async def _lost(self, _changes: Changes, args: Any) -> Answer:
        return [Record(exists=not all(self._has(*mark) for mark in zip(*args, strict=True)))]

    def _has(self, position: int, known: bytes) -> bool:
        events = self._server.read_after(Changes(), position - 1, position, 1)
        return position == 0 or [known] == [each["hash"] for each in events]

    async def _clock(self, _changes: Changes, _args: Any) -> Answer:
        now, recorded_at = self._server.clock(), self._server.recorded_at
        return [Record(now=now, behind_s=max(0.0, (recorded_at - now).total_seconds()))]

    async def _epochs(self, changes: Changes, args: Any) -> Answer:
        leases = {**self._server.leases, **changes.leases}
        return [Record(engine=each, epoch=leases[each]["epoch"]) for each in args[0] if each in leases]

    async def _now(self, _changes: Changes, _args: Any) -> Answer:
        return [Record(now=self._server.clock())]

    async def _job(self, changes: Changes, args: Any) -> Answer:
        row = self._row(changes, "status", args[0])
        return [] if row is None else [Record(row=row)]

    async def _jobs_now(self, changes: Changes, args: Any) -> Answer:
        rows = [(key, self._row(changes, "status", key)) for key in args[0]]
        server, now = self._server, self._server.clock()
        where = {
            "ledger_id": LEDGER_ID, "epoch": 1, "rebuilds": server.rebuilds, "position": server.position,
            "hash": server.hash,
        }  # fmt: skip
        return [Record(key=key, row=row, now=now, **where) for key, row in rows if row is not None]

    async def _moved(self, _changes: Changes, args: Any) -> Answer:
        server, (after, most, known) = self._server, args
        jobs: str | None = None
        there = server.read_after(Changes(), after - 1, after, 1)
        if after <= server.position <= after + most and [known] == [each["hash"] for each in there]:
            events = server.read_after(Changes(), after, server.position, most)
            last = {str(each["job"]): each["position"] for each in events if each["job"] is not None}
            jobs = json.dumps(last)
        return [
            Record(
                ledger_id=LEDGER_ID, epoch=1, rebuilds=server.rebuilds, position=server.position,
                hash=server.hash, now=server.clock(), jobs=jobs,
            )
        ]  # fmt: skip

    async def _project(self, changes: Changes, args: Any) -> Answer:
        row = self._row(changes, "projects", args[0])
        return [] if row is None else [Record(row=row)]

    async def _live_jobs(self, _changes: Changes, args: Any) -> Answer:
        live, pushing = [], []
        for (fold, key), row in self._server.folds.items():
            if fold == "status":
                job = self._server.row(fold, key)
                if str(job.state) in args[0]:
                    live.append(Record(row=row))
                elif job.push_ordered is not None:
                    pushing.append(Record(row=row))
        return live + pushing

    async def _token_by_hash(self, _changes: Changes, args: Any) -> Answer:
        key = self._server.hashes.get(args[0])
        return [] if key is None else [Record(row=self._server.folds["tokens", key])]

    async def _first_key(self, changes: Changes, args: Any) -> Answer:
        found = changes.keys.get(args[0]) or self._server.keys.get(args[0])
        return [] if found is None else [found]

    async def _add_key(self, changes: Changes, args: Any) -> Answer:
        key, project, nonce, box = args
        # Who adds it while another does waits for what becomes of that.
        await self._locked(self._server.key_locks.setdefault(project, RowLock()))
        if project not in self._server.keys:
            changes.keys[project] = Record(id=key, nonce=nonce, box=box)
        return []

    # -- leases -----------------------------------------------------------------------------------------

    async def _lease(self, engine: str) -> Record | None:
        """Its row, locked."""
        if engine in self._server.leases:
            await self._locked(self._server.lease_locks.setdefault(engine, RowLock()))
        return self._server.leases.get(engine)

    async def _look(self, _changes: Changes, args: Any) -> Answer:
        found = await self._lease(args[0])
        if found is None:
            return []
        expired = found["expires_at"] <= self._server.clock()
        released = found["expires_at"] <= found["renewed_at"]
        return [Record(found, expired=expired, released=released)]

    async def _take(self, changes: Changes, args: Any) -> Answer:
        engine, holder, ttl_s, gone = args
        # Also where there is no row yet: of two that add it, the second waits for the first.
        await self._locked(self._server.lease_locks.setdefault(engine, RowLock()))
        found, now = self._server.leases.get(engine), self._server.clock()
        if found is not None and found["expires_at"] > now and not gone:
            return []
        epoch = found["epoch"] + 1 if found is not None else 1
        seen_at = found["renewed_at"] if found is not None else now
        changes.leases[engine] = _lease(engine, epoch, holder, seen_at, now + timedelta(seconds=ttl_s))
        return [Record(epoch=epoch)]

    async def _renew(self, changes: Changes, args: Any) -> Answer:
        engine, holder, epoch, ttl_s, seen = args
        found = await self._lease(engine)
        if found is None or (found["holder"], found["epoch"]) != (holder, epoch):
            return []
        now = self._server.clock()
        seen_at = now if seen else found["renewed_at"]
        changes.leases[engine] = _lease(engine, epoch, holder, seen_at, now + timedelta(seconds=ttl_s))
        return [Record(epoch=epoch)]

    async def _release(self, changes: Changes, args: Any) -> Answer:
        engine, holder, epoch = args
        found = await self._lease(engine)
        if found is not None and (found["holder"], found["epoch"]) == (holder, epoch):
            changes.leases[engine] = _lease(engine, epoch, holder, found["renewed_at"], found["renewed_at"])
        return []


def _lease(engine: str, epoch: int, holder: str, seen_at: datetime, until: datetime) -> Record:
    return Record(engine=engine, epoch=epoch, holder=holder, renewed_at=seen_at, expires_at=until)


_Work = Callable[[Statements, Changes, Any], Awaitable[Answer]]
#: Every statement that has an answer, and the name of the point in front of it; none for one that goes
#: with the next.
STATEMENTS: dict[str, tuple[_Work, str]] = {
    _LEDGER.bound: (Statements._bound, "bound"),
    _LEDGER.ping: (Statements._one, "ping"),
    _PING: (Statements._one, "ping"),
    _LEDGER.take_head: (Statements._take_head, "lock head"),
    _LEDGER.head: (Statements._head, "head"),
    _LEDGER.append: (Statements._append, "append"),
    _LEDGER.keep: (Statements._keep, "append"),
    _LEDGER.command: (Statements._command, "query"),
    _LEDGER.read_after: (Statements._read_after, "read"),
    _LEDGER.read_portion: (Statements._read_portion, "read"),
    _LEDGER.still: (Statements._still, "read"),
    _LEDGER.lost: (Statements._lost, "read"),
    _LEDGER.epochs: (Statements._epochs, "query"),
    _FOLDS.load: (Statements._load, "query"),
    _READS.clock: (Statements._clock, "now"),
    _READS.now: (Statements._now, "now"),
    _READS.job: (Statements._job, "job"),
    _FRESH.jobs_now: (Statements._jobs_now, "job"),
    _FRESH.moved: (Statements._moved, "head"),
    _READS.live_jobs: (Statements._live_jobs, "live jobs"),
    _READS.project: (Statements._project, "project"),
    _READS.token_by_hash: (Statements._token_by_hash, "token"),
    _KEYS.first_key: (Statements._first_key, "key"),
    _KEYS.add_key: (Statements._add_key, "key"),
    _LEASES.bound: (Statements._bound_lease, ""),
    _LEASES.look: (Statements._look, "lease"),
    _LEASES.take: (Statements._take, "lease"),
    _LEASES.renew: (Statements._renew, "before lease"),
    _LEASES.release: (Statements._release, "before lease"),
}

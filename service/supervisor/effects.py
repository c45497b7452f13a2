"""What every part of the supervisor shares: the ledger under its epoch, the engine, the settings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog

from service.config import Settings
from service.domain import commands as cmd
from service.domain.events import Info
from service.domain.job import Job
from service.domain.room import DISK_FULL
from service.domain.shown import said
from service.domain.states import PLACED
from service.errors import JobyardError, NotFound, StaleEpoch, WrongState
from service.ledger.commit import Receipt
from service.ledger.leases import Lease
from service.supervisor.cache import Cache
from service.supervisor.cache.space import Bounds, Space
from service.supervisor.clock import LedgerClock
from service.supervisor.data.s3.shelf import Shelf
from service.supervisor.engine.protocol import Engine
from service.supervisor.logs.keeper import LogKeeper
from service.supervisor.names import RunId
from service.supervisor.ports import SupervisorLedger
from service.supervisor.presence import Presence
from service.supervisor.same_engine import SameEngine
from service.supervisor.storage.share import Watching
from service.supervisor.watch import Watch

_log = structlog.get_logger()

#: Creating and starting costs ~150 ms on 2 cores, and no more a second beyond four at once (hazards.md).
STARTS_AT_ONCE = 4


class FatalForRun(JobyardError):
    """The run cannot go on. `ours` tells our fault (ERROR) from the user's (FAILED)."""

    def __init__(self, info: Info, *, ours: bool = False) -> None:
        super().__init__(info.message)
        self.info = info
        self.ours = ours


@dataclass
class Yard:
    """One supervisor's hold on one engine, for as long as its epoch lasts."""

    ledger: SupervisorLedger
    engine: Engine
    keeper: LogKeeper
    watch: Watch
    clock: LedgerClock
    settings: Settings
    ledger_id: UUID
    engine_id: str
    lease: Lease
    same: SameEngine
    shelf: Shelf = field(default_factory=Shelf)
    #: Runs that have ended and whose log could not be: the sweep ends it.
    open_logs: set[RunId] = field(default_factory=set)
    #: Set when something was left behind that a sweep should put away soon.
    untidy: asyncio.Event = field(default_factory=asyncio.Event)
    #: How many runs have their storage watched.
    storage: Watching = field(default_factory=Watching)
    #: The containers that this epoch asked the engine to start without an answer (yet): see `container`.
    asked_to_start: set[str] = field(default_factory=set)
    #: Runs not known to have begun, of which a container may have, and have been put away: see `container`.
    may_have_run: set[RunId] = field(default_factory=set)
    #: Where the engine keeps images and containers, for the look at its disk; None: it cannot be looked at.
    engine_root: Path | None = None
    starts: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(STARTS_AT_ONCE))
    cache: Cache = field(init=False)
    presence: Presence = field(init=False)

    def __post_init__(self) -> None:
        space = Space(
            self.settings.cache_dir,
            self.settings.volumes_dir,
            Bounds(self.settings.cache_max_age_s, self.settings.cache_max_bytes),
            is_over=self.is_over,
            still_ours=self.still_ours,
            now_ns=lambda: int(self.clock.now().timestamp() * 1e9),
        )
        self.cache = Cache(space)
        self.presence = Presence(self.clock, self.settings.lease_ttl_s, self.lease.absent_since)

    @property
    def epoch(self) -> int:
        return self.lease.epoch

    async def still_ours(self) -> None:
        """Before what cannot be taken back: raises `StaleEpoch` unless the engine is ours at this moment.

        A process that was stopped past its lease goes on where it stood, and where it stood may be right
        before a create. The ledger refuses what it says; what it does, the engine would not.
        """
        seen, moment = self.presence.since is None, self.presence.moment()
        if not await self.ledger.renew_lease(self.lease, self.settings.lease_ttl_s, seen=seen):
            raise StaleEpoch(f"epoch {self.epoch} of engine {self.engine_id} is over")
        if seen:
            self.presence.seen(moment)

    def end_log(self, run: RunId, *, gone: bool = False) -> None:
        """Mark the log of a run complete that has no container (any more), with a note where it may have had
        one (`gone`). What cannot be now, as on a disk without space, is left for the sweep."""
        try:
            self.keeper.seal(run.job, run.run, gone=gone)
        except (JobyardError, OSError) as error:
            self.open_logs.add(run)
            _log.warning("log not ended; it is later", job=str(run.job), run=run.run, error=str(error))
        else:
            self.open_logs.discard(run)

    async def is_over(self, run: RunId) -> bool:
        """True for a run that has ended, or was followed by another, or whose job was deleted or never was.

        The ledger itself is asked about what is not watched: what is not known to be over is not.
        """
        watched = self.watch.jobs.get(run.job)
        if watched is not None:
            return watched.run > run.run or watched.ended
        job = await self.ledger.find_job(run.job)
        return job is None or job.ended or job.deleted or job.run > run.run

    async def report(self, kind: type[cmd.RunCommand], job: Job, **particulars: Any) -> Receipt:
        """Send one command about a job's current run, and take in what followed. A run that was not looked
        after is told so first: what ends it would come too late for that.

        What it says may be others' words: they are made fit for the ledger here.

        Raises `WrongState` when the job moved meanwhile and `StaleEpoch` when the engine is no longer ours.
        """
        run, since = RunId(job.id, job.run), self.presence.since
        ours = job.engine == self.engine_id and job.state in PLACED
        if kind is not cmd.AdoptRun and ours and since is not None and self.presence.owes(run):
            with suppress(WrongState, NotFound):  # it moved on meanwhile
                await self.report(cmd.AdoptRun, job, absent_since=since)
        command = kind(
            project=job.project,
            engine=self.engine_id,
            epoch=self.epoch,
            job=job.id,
            run=job.run,
            **{name: _told(given) for name, given in particulars.items()},
        )
        receipt = await self.ledger.submit(command, actor=f"supervisor:{self.engine_id[:12]}")
        if kind is cmd.AdoptRun:
            self.presence.told(run)
        if receipt.events:
            _log.info(
                "reported",
                command=kind.__name__,
                job=str(job.id),
                run=job.run,
                position=receipt.position,
                epoch=self.epoch,
                events=[event.type for event in receipt.events],
            )
            await self.watch.refresh(job.id)
        return receipt

    async def note(self, job: Job, code: str, message: str, **arguments: str | int) -> None:
        """Say why the job is where it is, once for each change."""
        info: Info = _told(Info(code, message, dict(arguments)))
        if job.info != info:
            await self.report(cmd.NoteRun, job, info=info)

    async def note_full(self, job: Job) -> None:
        """The run cannot go on for want of space; it does, when there is some."""
        message = f"Node {self.settings.node} has no disk space left; the run goes on once it has some."
        await self.note(job, DISK_FULL, message, node=self.settings.node)

    @asynccontextmanager
    async def effect(self, name: str, run: RunId, **facts: Any) -> AsyncIterator[dict[str, Any]]:
        """One canonical line per effect: what was done to which run, how long it took, how it ended."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        facts = {"effect": name, "job": str(run.job), "run": run.run, "epoch": self.epoch} | facts
        try:
            yield facts
        except BaseException as error:
            _log.warning("effect", **facts, outcome=type(error).__name__, ms=_ms(loop.time() - began))
            raise
        _log.info("effect", **facts, outcome="ok", ms=_ms(loop.time() - began))


def _told(given: Any) -> Any:
    if isinstance(given, str):
        return said(given)
    if isinstance(given, Info):
        arguments = {name: _told(each) for name, each in given.arguments.items()}
        return Info(given.code, said(given.message), arguments)
    return given


def _ms(seconds: float) -> int:
    return round(seconds * 1000)

"""The supervisor of one engine: hold the lease, plan, and see that every placed run has a driver.

What one epoch does is in `shift`.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import structlog

from service.config import Settings
from service.domain import commands as cmd
from service.domain.scheduling import Node
from service.domain.states import State
from service.errors import EventsLost, JobyardError, StaleEpoch, Unavailable
from service.ledger.leases import Lease
from service.supervisor.adoption import adopt
from service.supervisor.clock import LedgerClock
from service.supervisor.data.s3.shelf import Shelf
from service.supervisor.effects import Yard
from service.supervisor.engine.protocol import Engine, EngineInfo
from service.supervisor.guard import HostLock, take_lease
from service.supervisor.holders import holder_name
from service.supervisor.logs.keeper import LogKeeper
from service.supervisor.names import LEDGER, RunId
from service.supervisor.ports import SupervisorLedger
from service.supervisor.same_engine import SameEngine
from service.supervisor.shift import Shift
from service.supervisor.watch import Watch
from service.tasks import whole

_log = structlog.get_logger()


class Supervisor:
    """Runs the jobs of a ledger on one engine, while this process lives and holds the lease."""

    def __init__(
        self,
        ledger: SupervisorLedger,
        engine: Engine,
        keeper: LogKeeper,
        settings: Settings,
        shelf: Shelf | None = None,
    ) -> None:
        """`shelf`: of the data stores that are kept open; whoever gives it can make it forget their keys."""
        self._ledger = ledger
        self._engine = engine
        self._keeper = keeper
        self._settings = settings
        self._shelf = Shelf(allow=settings.store_networks) if shelf is None else shelf
        self._holder = holder_name()
        #: Of all epochs: nobody else knows of them.
        self._open_logs: set[RunId] = set()
        #: Set once the engine is ours and everything that was there has been taken over.
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled: take the lease, look after the engine, and begin again when it is lost."""
        while True:
            try:
                await whole(self._one_epoch())
            except StaleEpoch as error:
                _log.warning("lease lost", error=error.message)
            except EventsLost as error:
                _log.warning("a failover lost events; the supervisor begins again", error=error.message)
            except Unavailable as error:
                _log.warning("supervisor interrupted", error=error.message)
            except Exception:  # noqa: BLE001 (jobs must never be left without anybody)
                _log.exception("supervisor failed; it begins again")
            self.ready.clear()
            await asyncio.sleep(self._settings.retry_s)

    async def _one_epoch(self) -> None:
        info = await self._engine.info()
        head = await self._ledger.head()
        # A copy of an own engine's data has its id as well, and is another all the same.
        lock = HostLock(f"{info.id} {info.root_dir}", head.ledger_id, await self._ledger.which_database())

        async def in_use() -> bool:
            return bool(await self._engine.list({LEDGER: str(head.ledger_id)}))

        try:
            lease = await take_lease(
                self._ledger,
                info.id,
                lock,
                self._holder,
                self._settings.lease_ttl_s,
                self._settings.retry_s,
                in_use,
            )
            try:
                shift = await self._begin(info, lease)
                self.ready.set()
                await shift.run()
            finally:
                with suppress(JobyardError, TimeoutError):
                    async with asyncio.timeout(2):
                        await self._ledger.release_lease(lease)
        finally:
            lock.release()

    async def _begin(self, info: EngineInfo, lease: Lease) -> Shift:
        """Say that we are here, take over what the one before us left, and see what the node has."""
        head = await self._ledger.head()
        watch = Watch(self._ledger, self._settings.retry_s, lambda job: yard.end_log(RunId(job.id, job.run)))
        yard = Yard(
            ledger=self._ledger,
            engine=self._engine,
            keeper=self._keeper,
            watch=watch,
            clock=LedgerClock(self._ledger),
            settings=self._settings,
            ledger_id=head.ledger_id,
            engine_id=info.id,
            lease=lease,
            same=SameEngine(self._engine, info.id),
            shelf=self._shelf,
            engine_root=Path(info.root_dir) if info.root_dir else None,
            open_logs=self._open_logs,
        )
        await yard.clock.sync()
        node = node_of(info, self._settings)
        await self._ledger.submit(
            cmd.StartSupervisor(
                engine=info.id,
                epoch=lease.epoch,
                node=self._settings.node,
                absent_since=lease.absent_since,
                cpus=node.cpus,
                memory=node.memory_bytes,
                gpus=len(node.gpus),
                devices=node.gpus,
                gpu_trouble=node.gpu_trouble,
                patience_ms=round(self._settings.patience_s * 1000),
            ),
            actor=f"supervisor:{info.id[:12]}",
        )
        await watch.load()
        yard.may_have_run |= {
            RunId(job.id, job.run) for job in watch.jobs.values() if job.state is State.PENDING
        }
        shift = Shift(yard, node)
        await adopt(yard)
        if not await self._engine.block_metadata():
            _log.warning(
                "metadata addresses are not blocked", why="not root on the engine's host, or no iptables"
            )
        if self._settings.node_gpus and not info.gpu_driver:
            _log.warning("GPUs are configured, but no NVIDIA driver is seen", gpus=self._settings.node_gpus)
        for line in beyond(info, self._settings):
            _log.warning("more than the node has", why=line)
        _log.info("supervisor started", engine=info.id, epoch=lease.epoch, jobs=len(watch.jobs))
        return shift


def node_of(info: EngineInfo, settings: Settings) -> Node:
    """What the engine's machine offers: as Docker says, unless the configuration says otherwise."""
    trouble = "" if settings.node_gpus else "none are configured"
    return Node(
        name=settings.node,
        cpus=settings.node_cpus or info.cpus,
        memory_bytes=settings.node_memory or info.memory_bytes,
        gpus=settings.node_gpus,
        gpu_trouble=trouble,
    )


def beyond(info: EngineInfo, settings: Settings) -> list[str]:
    """A sentence for each thing of which more is on offer than the engine's machine has. That may be meant,
    as with jobs that mostly wait, so it is only said."""
    return [
        f"JOBYARD_{name} is {offered}, more than the {there} that the Docker Engine reports: jobs are "
        "promised what the machine does not have."
        for name, offered, there in (
            ("NODE_CPUS", settings.node_cpus, info.cpus),
            ("NODE_MEMORY", settings.node_memory, info.memory_bytes),
        )
        if offered is not None and offered > there
    ]

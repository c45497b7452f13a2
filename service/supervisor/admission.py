"""Whether runs may begin on the node, as it is now and as the ledger was told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from service.domain import behind
from service.domain import commands as cmd
from service.domain.events import Info
from service.domain.room import Place, Reserve, judged
from service.supervisor import room
from service.supervisor.effects import Yard

_log = structlog.get_logger()


class Admission:
    """Looks at the node's disks and memory and at the database's clock, and tells the ledger of each change.

    What is not told yet holds already: a run is placed by an event, after the one that lets it begin.
    """

    def __init__(self, yard: Yard) -> None:
        settings = yard.settings
        self._yard = yard
        self._reserve = Reserve(settings.disk_reserve_bytes, settings.memory_reserve_bytes)
        self._stopped: Info | None = None
        self._told: Info | None = None
        self._looked = False
        self._telling = asyncio.Lock()

    @property
    def stopped(self) -> Info | None:
        """Why no run may begin, as of the last look, whether or not the ledger was told."""
        return self._stopped

    async def now(self) -> Info | None:
        """Why no run may begin, or None, as of the last look. Raises `Unavailable` when it cannot be told."""
        if not self._looked:
            await self.look()
        await self._tell()
        return self._stopped

    async def look(self) -> bool:
        """Whether anything has changed. Raises as `now`."""
        settings, root = self._yard.settings, self._yard.engine_root
        places: list[tuple[Place, Path]] = [("state", settings.state_dir), ("cache", settings.cache_dir)]
        if root is not None:
            places.append(("engine", root))
        # Not in a thread: it takes microseconds, and a disk that hangs stops all else of a supervisor too.
        levels = room.read(places)
        full = judged(levels, self._reserve, settings.node, self._stopped)
        # As it was when the lease was last renewed: a look asks nobody, and holds also where nobody answers.
        found = full or behind.judged(self._yard.clock.behind_s)
        changed = found != self._stopped
        self._looked, self._stopped = True, found
        await self._tell()
        return changed

    async def _tell(self) -> None:
        async with self._telling:  # the plan and the look may both, and it is said once
            if self._told == (stopped := self._stopped):
                return
            yard = self._yard
            command = cmd.SetAdmission(
                engine=yard.engine_id, epoch=yard.epoch, node=yard.settings.node, stopped=stopped
            )
            await yard.ledger.submit(command, actor=f"supervisor:{yard.engine_id[:12]}")
            self._told = stopped
            _log.warning("admission", stopped=stopped.code if stopped else None, node=yard.settings.node)

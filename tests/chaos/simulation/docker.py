"""The fake engine with processes that end by themselves, faults by chance, and restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

from service.errors import EngineAway, EngineError, ImageUnavailable
from service.supervisor.engine.protocol import SUBSCRIBED, ContainerSpec, Hint, ImageInfo
from service.supervisor.names import RunId, run_of
from tests.support.engine.fake import FakeEngine

IMAGE = "busybox:latest"
INPUT = "input"
#: What an engine says of a process that was killed with it: as anybody kills, or that it does not know.
KILLED, UNKNOWN = 137, 255
Seen = Callable[[str, Any], None]


def output(run: RunId) -> str:
    """The name of the file that a run's process writes into each of its volumes as it begins."""
    return f"output-{run.run}"


class SimEngine(FakeEngine):
    """`seen` hears of each effect: of a start once it happened, of a create or remove right before. To
    remove without force is to fence, as what others may start is put away: heard of once it happened."""

    def __init__(self, clock: Callable[[], datetime], chance: Random, seen: Seen) -> None:
        super().__init__(clock, cpus=4)
        self.add_image(IMAGE, pulled=False)
        self._chance, self._seen = chance, seen
        self.fault_rate = self.loss_rate = 0.0
        self.down_until = 0.0
        #: How often it refused, and how often an image was not to be had.
        self.refusals = self.failures = 0
        #: Containers of which a start, or several, went without an answer.
        self.cut_starts: set[str] = set()
        self.lasts_s = 60.0

    def _enter(self, call: str, about: str) -> None:
        if asyncio.get_running_loop().time() < self.down_until:
            raise EngineAway("the engine is restarting")
        if call != "info" and self._chance.random() < self.fault_rate:
            error = self._chance.choice(
                (EngineAway("no answer"), EngineAway("no answer"), EngineError("500"))
            )
            self.refusals += not isinstance(error, EngineAway)
            raise error

    def _leave(self, call: str, answer: Any) -> Any:
        if call != "info" and self._chance.random() < self.fault_rate:
            raise EngineAway(f"the reply to {call} was lost")
        return answer

    async def pull(self, ref: str, **how: Any) -> ImageInfo:
        if self.fault_rate:
            await asyncio.sleep(self._chance.choice((0.1, 1, 30)))
            if self._chance.random() < 2 * self.fault_rate:
                self.failures += 1
                raise ImageUnavailable("no space left on device", passing=True, reason="other")
        return await super().pull(ref, **how)

    async def create(self, spec: ContainerSpec, **how: Any) -> str:
        self._enter("create", spec.name)
        if self.fault_rate and self._chance.random() < self.fault_rate / 2:
            self.refusals += 1
            raise EngineError("create: no space left on device")
        self._seen("create", spec)
        return await super().create(spec, **how)

    async def start(self, container_id: str) -> None:
        fake = self._look_up(container_id)
        runs = fake is not None and fake.state == "running"
        answered = False
        try:
            await super().start(container_id)
            answered = True
        finally:
            if fake is not None and not answered:
                self.cut_starts.add(fake.id)
            if fake is not None and not runs and fake.state == "running":
                self._seen("start", fake)
                for mount in fake.spec.mounts:
                    run = run_of(fake.spec.labels)
                    if run is not None and not mount.read_only:
                        (Path(mount.source) / output(run)).write_text("written")
                code = self._chance.choice((0, 0, 0, 1))
                after_s = self._chance.uniform(0, 2 * self.lasts_s)
                if code and after_s % 2 < 1:  # no draw of its own: a kept seed stays the story that it was
                    code = UNKNOWN
                asyncio.get_running_loop().call_later(after_s, self._finish, fake.id, code)

    def _finish(self, container_id: str, code: int) -> None:
        """Its own process ends; nobody has to be there for it."""
        fake = self._look_up(container_id)
        if fake is not None and fake.state == "running":
            fake.state, fake.exit_code, fake.finished_at = "exited", code, self._clock()
            self._remember("die", fake)
            self._remember("disconnect")
            self._tell(fake)

    async def remove(self, container_id: str, *, force: bool = False) -> None:
        fake = self._look_up(container_id)
        if fake is not None and force:
            self._seen("remove", fake)
        try:
            await super().remove(container_id, force=force)
        finally:
            if fake is not None and not force and self._look_up(fake.id) is None:
                self._seen("fence", fake)

    async def events(self) -> AsyncGenerator[Hint, None]:
        """Some are lost, some come twice, some after later ones."""
        kept: list[Hint] = []
        source = super().events()
        try:
            async for item in source:
                roll = self._chance.random()
                if item == SUBSCRIBED or roll >= self.loss_rate:
                    yield item
                elif roll < self.loss_rate / 3:
                    yield item
                    yield item
                elif roll < self.loss_rate / 2:
                    kept.append(item)
                    continue
                while kept:
                    yield kept.pop()
        finally:
            await source.aclose()

    def restart(self, down_s: float, *, kills: bool) -> None:
        self.down_until = asyncio.get_running_loop().time() + down_s
        self.end_events()
        self.begin_anew()
        self._seen("restart", kills)
        code = UNKNOWN if down_s % 2 < 1 else KILLED
        for fake in self._containers.values():
            if kills and fake.state == "running":
                fake.state, fake.exit_code, fake.finished_at = "exited", code, self._clock()
                self._seen("killed", fake)

    def all(self) -> list[Any]:
        return list(self._containers.values())

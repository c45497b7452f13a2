"""One way to make and await containers, on the real engine and on the fake."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

from service.supervisor.engine.protocol import Container, ContainerSpec, Engine, LogChunk
from tests.images import BUSYBOX
from tests.support.engine.fake import FakeEngine
from tests.support.engine.scripted import Script

LABEL = "jobyard-test"


@dataclass(frozen=True)
class Behaviour:
    """What a container does: the command that does it, and the script that says so to the fake."""

    command: tuple[str, ...]
    script: Script


def shell(text: str) -> tuple[str, ...]:
    return ("sh", "-c", text)


DONE = Behaviour(shell("exit 0"), Script(ticks=0))
FAILS_3 = Behaviour(shell("exit 3"), Script(ticks=0, exit_code=3))
RUNS_ON = Behaviour(
    shell("trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done"),
    Script(sigterm_code=7, output=((1, b"ready\n"),)),
)
ENDS_WELL_ON_TERM = Behaviour(
    shell("trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done"),
    Script(sigterm_code=0, output=((1, b"ready\n"),)),
)
IGNORES_SIGTERM = Behaviour(
    shell("trap '' TERM; echo ready; while :; do sleep 0.05; done"),
    Script(sigterm_code=None, output=((1, b"ready\n"),)),
)
TALKS = Behaviour(
    shell("echo one; echo problem >&2; echo two; printf three"),
    Script(ticks=0, output=((1, b"one\n"), (2, b"problem\n"), (1, b"two\n"), (1, b"three"))),
)
WRITES = Behaviour(
    shell("head -c 1048576 /dev/zero > /tmp/file; echo ready; while :; do sleep 0.05; done"),
    Script(writes_bytes=1024**2, output=((1, b"ready\n"),)),
)
NOT_THERE = Behaviour(("no-such-program",), Script(ticks=0, exit_code=127, output=((2, b"[FATAL] exec\n"),)))


class Lab:
    """Containers of one test, all labelled alike, so that `clean` finds every one."""

    def __init__(self, engine: Engine, network: str) -> None:
        self.engine = engine
        self.network = network
        self.key = uuid4().hex[:12]
        self._made = 0
        self._closed = False

    @property
    def is_real(self) -> bool:
        return not isinstance(self.engine, FakeEngine)

    def spec(self, behaviour: Behaviour, **changes: Any) -> ContainerSpec:
        self._made += 1
        spec = ContainerSpec(
            name=f"t-{self.key}-{self._made}",
            image=BUSYBOX,
            command=behaviour.command,
            labels={LABEL: self.key},
            network=self.network,
            nano_cpus=0,
            memory_bytes=64 * 1024**2,
            pids_limit=64,
        )
        spec = replace(spec, **changes)
        if isinstance(self.engine, FakeEngine):
            self.engine.scripts[spec.name] = behaviour.script
        return spec

    async def started(self, behaviour: Behaviour, **changes: Any) -> str:
        container_id = await self.engine.create(self.spec(behaviour, **changes))
        await self.engine.start(container_id)
        return container_id

    async def ended(self, behaviour: Behaviour, **changes: Any) -> Container:
        return await self.end(await self.started(behaviour, **changes))

    async def run(self, text: str, **changes: Any) -> Container:
        """Run a shell text on the real engine to its end."""
        return await self.ended(Behaviour(shell(text), Script(ticks=0)), **changes)

    async def end(self, container_id: str) -> Container:
        """Wait for the moment the container has ended."""
        async with asyncio.timeout(30), aclosing(self.engine.events()) as events:
            async for _ in events:
                found = await self.engine.find(container_id)
                assert found is not None
                if found.state == "exited":
                    return found
        raise AssertionError("the event stream ended")

    async def printed(self, container_id: str, text: bytes) -> None:
        """Wait for the moment the container has printed this."""
        async with asyncio.timeout(30), aclosing(self.engine.logs(container_id, follow=True)) as chunks:
            seen = b""
            async for batch in chunks:
                seen += b"".join(chunk.payload for chunk in batch)
                if text in seen:
                    return
        raise AssertionError(f"{text!r} was never printed")

    async def output(self, container_id: str, **how: Any) -> list[LogChunk]:
        return [chunk async for batch in self.engine.logs(container_id, **how) for chunk in batch]

    async def text(self, container_id: str, **how: Any) -> str:
        return b"".join(chunk.payload for chunk in await self.output(container_id, **how)).decode()

    async def clean(self) -> None:
        for listed in await self.engine.list({LABEL: self.key}):
            await self.engine.remove(listed.id, force=True)

    async def close(self) -> None:
        """Remove what was made and close the engine; idempotent."""
        if not self._closed:
            self._closed = True
            await self.clean()
            await self.engine.close()

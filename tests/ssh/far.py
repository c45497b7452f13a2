"""A far end that does what a test says: takes input when it may, and says what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from service.ssh.ports import Output, Running


@dataclass(frozen=True)
class Said:
    data: bytes
    stream: int = 1


@dataclass
class Scripted:
    """A command, and the engine that runs it. `says` is asked for one by one; after it, silence."""

    says: Iterable[Said] = ()
    #: Before input is taken, and before its end has been put away.
    before_it_takes: Callable[[], Awaitable[object]] = lambda: asyncio.sleep(0)
    before_it_is_over: Callable[[], Awaitable[object]] = lambda: asyncio.sleep(0)
    asked: int = 0
    given: int = 0
    taken: list[bytes] = field(default_factory=list)
    has_ended_input: bool = False

    @asynccontextmanager
    async def open(
        self,
        container_id: str,
        command: Sequence[str],
        *,
        stdin: bool = False,
        stdout: bool = True,
        stderr: bool = True,
        tty: bool = False,
        env: Sequence[tuple[str, str]] = (),
    ) -> AsyncIterator[Running]:
        try:
            yield self
        finally:
            await self.before_it_is_over()

    async def output(self) -> AsyncIterator[Output]:
        for each in self.says:
            self.asked += 1
            yield each
        await asyncio.Event().wait()

    async def write(self, data: bytes) -> None:
        self.given += 1
        await self.before_it_takes()
        self.taken.append(data)

    async def end_input(self) -> None:
        self.has_ended_input = True

    async def resize(self, width: int, height: int) -> None: ...

    async def signal(self, number: int) -> bool:
        return False

    async def exit_code(self) -> int:
        return 0

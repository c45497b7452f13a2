"""A container of the fake engine, a keeper of its log and a reader, for the tests of all three."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from hypothesis import strategies as st

from service.supervisor.engine.protocol import ContainerSpec, LogChunk, LogChunks
from service.supervisor.logs.cursor import Cursor
from service.supervisor.logs.format import Record, RunLog, stamp
from service.supervisor.logs.keeper import LogKeeper
from service.supervisor.logs.reader import LogReader
from service.supervisor.logs.writer import LogLimits
from tests.support.engine.fake import FakeEngine
from tests.support.waiting import gathered

IMAGE = "jobyard-test/busybox:1"


NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


SMALL = LogLimits(cap_bytes=512 * 1024, ring=4)


payloads = st.binary(max_size=40).map(lambda data: data.replace(b"\n", b"x"))


records = st.builds(
    Record,
    timestamp=st.integers(0, 5).map(lambda n: stamp(NOON + timedelta(microseconds=n))),
    kind=st.sampled_from(["1", "2"]),
    payload=payloads,
    complete_line=st.booleans(),
)


class Readings:
    """Sees with which chunk each reading of the engine's log begins."""

    def __init__(self, world: World) -> None:
        self.firsts: list[list[bytes]] = []
        self._logs = world.engine.logs
        world.engine.logs = self._seen  # type: ignore[method-assign]

    async def _seen(self, container_id: str, **how: Any) -> AsyncGenerator[LogChunks, None]:
        async with aclosing(self._logs(container_id, **how)) as batches:
            async for chunks in batches:
                self.firsts.append([chunks[0].payload])
                yield chunks


class World:
    """A fake engine with one container, a keeper of its log, and a reader."""

    def __init__(self, folder: Path, engine: FakeEngine, container: str, **how: object) -> None:
        self.job: UUID = uuid4()
        self.engine, self.container = engine, container
        self.printed = b""
        self.reader = LogReader(folder, pause=never)
        self.path = RunLog(folder, self.job, 1).segment(0)
        self._folder, self._how = folder, how
        self.keeper = LogKeeper(engine, folder, **how)  # type: ignore[arg-type]

    @classmethod
    async def make(cls, folder: Path, *, clock: object = None, **how: object) -> World:
        engine = FakeEngine(clock if callable(clock) else lambda: NOON)
        engine.add_image(IMAGE)
        container = await engine.create(ContainerSpec(name="a-job", image=IMAGE))
        await engine.start(container)
        return cls(folder, engine, container, **how)

    async def print(self, payload: bytes, stream: int = 1) -> None:
        await self.engine.write(self.container, payload, 1 if stream == 1 else 2)
        self.printed += payload

    def append_equal(self, payload: bytes) -> None:
        """As the engine keeps the pieces of a long line: one timestamp for all."""
        log = self.engine.output(self.container)
        log.append(piece(payload))

    def engine_forgets(self, chunks: int) -> None:
        del self.engine.output(self.container)[:chunks]

    def break_disk(self) -> None:
        """The keeper's open file refuses to be written, as on a full disk."""
        files = Path("/proc/self/fd")
        held = [int(fd.name) for fd in files.iterdir() if fd.exists() and fd.resolve() == self.path.resolve()]
        full = os.open("/dev/full", os.O_WRONLY)
        for fd in held:
            os.dup2(full, fd)
        os.close(full)

    async def restart(self) -> None:
        """A new keeper that knows nothing but the disk."""
        await self.keeper.close()
        self.keeper = LogKeeper(self.engine, self._folder, **self._how)  # type: ignore[arg-type]

    async def catch_up(self) -> int:
        return await self.keeper.catch_up(self.job, 1, self.container)

    async def finish(self) -> None:
        await self.keeper.finish(self.job, 1, self.container)

    def kept(self) -> list[tuple[str, bytes, bool]]:
        """Every record of output on disk."""
        cursor = Cursor(RunLog(self._folder, self.job, 1))
        found: list[tuple[str, bytes, bool]] = []
        while records := cursor.advance():
            found += [(each.kind, each.payload, each.complete_line) for each in records if each.kind in "12"]
        return found

    async def read(self, **how: object) -> bytes:
        return await gathered(self.reader.read(self.job, 1, **how))  # type: ignore[arg-type]


def piece(payload: bytes) -> LogChunk:
    return LogChunk(1, stamp(NOON - timedelta(hours=1)), payload)


def frame(chunk: LogChunk, short: bool = False) -> bytes:
    """As Docker frames it; `short` leaves out the zeros at a timestamp's end, as Go does elsewhere."""
    moment = chunk.timestamp.removesuffix("Z").rstrip("0") + "Z" if short else chunk.timestamp
    body = moment.encode() + b" " + chunk.payload
    return bytes([chunk.stream]) + b"\0\0\0" + len(body).to_bytes(4, "big") + body


def line(n: int) -> Record:
    return Record(stamp(NOON + timedelta(seconds=n)), "1", b"%d" % n)


def seconds() -> Iterator[datetime]:
    for n in range(10**6):
        yield NOON + timedelta(seconds=n)


async def never(_: float) -> None:
    return None

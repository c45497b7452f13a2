"""A line that carries one of the service's links, over TCP or a unix socket, and can be broken in every way.

What is said first on a connection tells its sort (a writer's from a reader's), and each sort can be broken by
itself. The line writes down when a fault began.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum

#: A path of a unix socket, or a host and a port.
Address = str | tuple[str, int]
Sorter = Callable[[bytes], str | None]

LATENCY_S = 0.05
_CHUNK_BYTES = 65_536


class Fault(StrEnum):
    """What happens to a sort of connection, to those there are and to those that come, until it is mended."""

    RST = "rst"  # broken off
    FIN = "fin"  # ended politely
    STALL = "stall"  # kept, and nothing passes; it flows on when the line is mended
    STALL_UP = "stall-up"  # the same, only on the way to the server
    STALL_DOWN = "stall-down"  # the same, only on the way back
    HALF_OPEN = "half-open"  # the peer has vanished: nothing passes ever again, and neither end is told
    SLOW = "slow"  # all passes, late


_STALLS = {Fault.STALL: (True, False), Fault.STALL_UP: (True,), Fault.STALL_DOWN: (False,)}


@dataclass
class Line:
    """`log`: when (the loop's time) which sort was broken, and how. `passed_at`: when a sort passed last.
    `asked_at`: when first something was to go to the server over a sort that is broken, and did not."""

    upstream: Address
    sorter: Sorter
    #: A connection stays of the sort that it is of first; else each request tells anew.
    sticky: bool = True
    address: Address = ""
    log: list[tuple[float, str, Fault]] = field(default_factory=list)
    passed_at: dict[str, float] = field(default_factory=dict)
    asked_at: dict[str, float] = field(default_factory=dict)
    _faults: dict[str, Fault] = field(default_factory=dict)
    _armed: list[tuple[bytes, str, Fault]] = field(default_factory=list)
    _mended: asyncio.Event = field(default_factory=asyncio.Event)
    _pipes: set[_Pipe] = field(default_factory=set)

    def break_(self, sort: str, fault: Fault) -> None:
        self.log.append((asyncio.get_running_loop().time(), sort, fault))
        self._faults[sort] = fault
        self.asked_at.pop(sort, None)
        for pipe in list(self._pipes):
            if pipe.sort == sort:
                pipe.struck(fault)

    def break_after(self, said: bytes, sort: str, fault: Fault) -> None:
        """Break it right after these words have gone to the server: its answer is what is lost."""
        self._armed.append((said, sort, fault))

    def mend(self, sort: str) -> None:
        self._faults.pop(sort, None)
        mended, self._mended = self._mended, asyncio.Event()
        mended.set()

    @property
    def broken(self) -> bool:
        return bool(self._faults)

    def count(self, sort: str) -> int:
        """How many connections of this sort there are that lead anywhere."""
        return sum(pipe.sort == sort and not pipe.dead for pipe in self._pipes)

    def fault_of(self, sort: str | None) -> Fault | None:
        return self._faults.get(sort) if sort is not None else None

    async def flowing(self) -> None:
        """Return when something was mended."""
        await self._mended.wait()

    def passed_up(self, data: bytes) -> None:
        for armed in list(self._armed):
            if armed[0] in data:
                self._armed.remove(armed)
                self.break_(armed[1], armed[2])

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await self._connect()
        except OSError:
            writer.transport.abort()
            return
        pipe = _Pipe(self, writer, up_writer)
        self._pipes.add(pipe)
        try:
            await asyncio.gather(pipe.pump(reader, up=True), pipe.pump(up_reader, up=False))
        finally:
            self._pipes.discard(pipe)
            pipe.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self.upstream, str):
            return await asyncio.open_unix_connection(self.upstream)
        return await asyncio.open_connection(*self.upstream)

    def close(self) -> None:
        for pipe in list(self._pipes):
            pipe.abort()


@dataclass(eq=False)
class _Pipe:
    """One connection. `dead`: nothing will ever pass it again, although both ends stand."""

    line: Line
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    sort: str | None = None
    dead: bool = False

    def struck(self, fault: Fault) -> None:
        match fault:
            case Fault.RST:
                self.dead = True
                self.abort()
            case Fault.FIN:
                self.dead = True
                for writer in (self.client, self.server):
                    writer.close()
            case Fault.HALF_OPEN:
                self.dead = True

    def abort(self) -> None:
        for writer in (self.client, self.server):
            with suppress(OSError, AttributeError):
                found = writer.get_extra_info("socket")
                found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def pump(self, reader: asyncio.StreamReader, *, up: bool) -> None:
        writer = self.server if up else self.client
        while data := await _read(reader):
            if up and (self.sort is None or not self.line.sticky):
                self.sort = self.line.sorter(data) or self.sort
            if up and (self.dead or self.line.fault_of(self.sort) not in (None, Fault.SLOW)):
                self.line.asked_at.setdefault(self.sort or "", asyncio.get_running_loop().time())
            if await self._passes(up=up):
                with suppress(ConnectionError):
                    writer.write(data)
                    await writer.drain()
                self.line.passed_at[self.sort or ""] = asyncio.get_running_loop().time()
                if up:
                    self.line.passed_up(data)
        # A stalled line holds back the end too, and behind a vanished peer nobody ever hears of it.
        if await self._passes(up=up):
            writer.close()
        elif self.dead and not writer.is_closing():
            await asyncio.Event().wait()

    async def _passes(self, *, up: bool) -> bool:
        """Whether anything passes now; waits while the line is stalled."""
        while not self.dead:
            fault = self.line.fault_of(self.sort)
            if fault is None:
                return True
            if fault is Fault.SLOW:
                await asyncio.sleep(LATENCY_S)
                return True
            if up not in _STALLS.get(fault, (True, False)):
                return True
            if fault in _STALLS:
                await self.line.flowing()
            else:
                self.struck(fault)
        return False


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(_CHUNK_BYTES)
    except ConnectionError:
        return b""


@asynccontextmanager
async def line(
    upstream: Address, sorter: Sorter, path: str | None = None, *, sticky: bool = True
) -> AsyncIterator[Line]:
    """A line to `upstream` while the context lasts: at the unix socket `path`, or on a free port."""
    made = Line(upstream, sorter, sticky)
    serving: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(made.serve(reader, writer))
        serving.add(task)
        task.add_done_callback(serving.discard)

    if path is not None:
        server = await asyncio.start_unix_server(accept, path)
        made.address = path
    else:
        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        made.address = server.sockets[0].getsockname()[:2]
    try:
        yield made
    finally:
        server.close()
        made.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

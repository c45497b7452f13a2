"""A crowd of websocket clients in a process of its own, which count frames and look into few of them.

The same crowd is used for bare and ours. Every client counts the text frames that hold an event; one in
`SAMPLED` also reads each event's `time`, to tell how long ago it was.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from multiprocessing.connection import Connection
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import uvloop

SAMPLED = 20
_CONNECTING = 50
_CONTROL = b'"jobyard.he'  # `jobyard.hello` and `jobyard.heartbeat`
_TIME = b'"time":"'


class Taken(NamedTuple):
    """What a crowd took: seconds from the first event to the last of them all, and delays in ms, sorted."""

    seconds: float
    delays_ms: list[float]


class Crowd:
    """The clients that are connected. Made by `crowd`."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    async def expect(self, each: int) -> None:
        """From now on so many events are counted for each client."""
        await asyncio.to_thread(self._pipe.send, each)
        await asyncio.to_thread(self._pipe.recv)

    async def taken(self) -> Taken:
        """Once every client has them all. Raises `RuntimeError` when one was cut off."""
        answer = await asyncio.to_thread(self._pipe.recv)
        if isinstance(answer, str):
            raise RuntimeError(answer)
        return Taken(answer[0], sorted(answer[1]))


@asynccontextmanager
async def crowd(url: str, path: str, token: str, clients: int) -> AsyncIterator[Crowd]:
    """So many clients, connected."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, url, path, token, clients), daemon=True)
    process.start()
    there.close()  # so that the end of the process is the end of the pipe
    try:
        await asyncio.to_thread(here.recv)
        yield Crowd(here)
    finally:
        process.terminate()
        await asyncio.to_thread(process.join)


class _Count:
    """What all clients have in common."""

    def __init__(self) -> None:
        self.clients = 0
        self.each = 0
        self.done = asyncio.Event()
        self.lost = ""
        self.begin(0)

    def begin(self, each: int) -> None:
        self.each = each
        self.left = self.clients if each else 0
        self.first_at = self.last_at = 0.0
        self.delays: list[float] = []
        self.done.clear()


class _Client(asyncio.Protocol):
    def __init__(self, count: _Count, head: bytes, *, sampled: bool) -> None:
        self._count = count
        self._head = head
        self._sampled = sampled
        self._rest = b""
        self._events = 0
        self.upgraded: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def begin(self) -> None:
        self._events = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(self._head)  # uvloop's own are no subclass of it

    def connection_lost(self, error: Exception | None) -> None:
        self._count.lost = f"a client was cut off: {error}"
        self._count.done.set()

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        at = 0
        if not self.upgraded.done():
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._rest = data
                return
            if not data.startswith(b"HTTP/1.1 101"):
                self.upgraded.set_exception(RuntimeError(data[:300].decode(errors="replace")))
                return
            self.upgraded.set_result(None)
            at = end + 4
        size = len(data)
        while size - at >= 2:
            length, begins = data[at + 1], at + 2
            if length == 126:
                length, begins = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            elif length == 127:
                length, begins = int.from_bytes(data[at + 2 : at + 10], "big"), at + 10
            if size < begins + length:
                break
            at = begins + length
            if data.find(_CONTROL, begins, at) < 0:
                self._event(data, begins, at)
        self._rest = data[at:]

    def _event(self, data: bytes, begins: int, ends: int) -> None:
        count = self._count
        self._events += 1
        if self._sampled:
            found = data.index(_TIME, begins, ends) + len(_TIME)
            said = datetime.fromisoformat(data[found : data.index(b'"', found)].decode())
            count.delays.append(1000 * (time.time() - said.timestamp()))
        if not count.first_at:
            count.first_at = time.perf_counter()
        if self._events == count.each:
            count.left -= 1
            if count.left == 0:
                count.last_at = time.perf_counter()
                count.done.set()


def _serve(pipe: Connection, url: str, path: str, token: str, clients: int) -> None:
    uvloop.run(_crowd(pipe, url, path, token, clients))


async def _crowd(pipe: Connection, url: str, path: str, token: str, clients: int) -> None:
    where = urlsplit(url)
    host, port = where.hostname or "", where.port or 0
    head = (
        f"GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()
    loop, count, turn = asyncio.get_running_loop(), _Count(), asyncio.Semaphore(_CONNECTING)

    async def connected(index: int) -> _Client:
        async with turn:
            _, client = await loop.create_connection(
                lambda: _Client(count, head, sampled=index % SAMPLED == 0), host, port
            )
            await client.upgraded
            return client

    everybody = await asyncio.gather(*(connected(index) for index in range(clients)))
    count.clients = clients
    pipe.send("ready")
    while True:
        each = await asyncio.to_thread(pipe.recv)
        count.begin(each)
        for client in everybody:
            client.begin()
        pipe.send("expecting")
        await count.done.wait()
        if count.lost:
            pipe.send(count.lost)
            return
        pipe.send((count.last_at - count.first_at, count.delays))

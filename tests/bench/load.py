"""A load generator in a process of its own: requests over connections that stay open, as fast as answered.

It writes the bytes of requests that were made before, and of an answer it looks at the status and the length
alone, so that it costs a small part of what any server costs. The same one is used for bare and ours. On two
cores it shares one of them with the database, where there is one.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import uvloop

CONNECTIONS = 64


class Answered(NamedTuple):
    """What came of a load: requests a second, and each answer's time in ms, sorted."""

    rate: float
    times_ms: list[float]

    def percentile(self, share: float) -> float:
        return self.times_ms[min(len(self.times_ms) - 1, int(len(self.times_ms) * share))]


class Load:
    """The process that asks. Made by `generator`."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    async def ask(
        self, url: str, requests: Sequence[bytes], count: int, *, connections: int = CONNECTIONS
    ) -> Answered:
        """Send `count` requests, these in turn. Raises `RuntimeError` for a status that is not 200."""
        where = urlsplit(url)
        await asyncio.to_thread(
            self._pipe.send, (where.hostname, where.port, list(requests), count, connections)
        )
        answer = await asyncio.to_thread(self._pipe.recv)
        if isinstance(answer, str):
            raise RuntimeError(answer)
        return Answered(count / answer[0], sorted(answer[1]))


def request(method: str, path: str, token: str, body: bytes = b"") -> bytes:
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@asynccontextmanager
async def generator() -> AsyncIterator[Load]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there,), daemon=True)
    process.start()
    try:
        yield Load(here)
    finally:
        process.terminate()
        await asyncio.to_thread(process.join)


def _serve(pipe: Connection) -> None:
    while True:
        host, port, requests, count, connections = pipe.recv()
        try:
            pipe.send(uvloop.run(_load(host, port, requests, count, connections)))
        except (OSError, RuntimeError) as error:
            pipe.send(f"{type(error).__name__}: {error}")


async def _load(
    host: str, port: int, requests: list[bytes], count: int, connections: int
) -> tuple[float, list[float]]:
    loop = asyncio.get_running_loop()
    left = iter([requests[number % len(requests)] for number in range(count)])
    times: list[float] = []
    clients = []
    for _ in range(connections):
        _, client = await loop.create_connection(lambda: _Client(left, times), host, port)
        clients.append(client)
    began = time.perf_counter()
    for client in clients:
        client.next()
    await asyncio.gather(*(client.done for client in clients))
    return time.perf_counter() - began, times


class _Client(asyncio.Protocol):
    """One connection: the next request as soon as the last one has its whole answer."""

    def __init__(self, left: Iterator[bytes], times: list[float]) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._left = left
        self._times = times
        self._asked_at = 0.0
        self._got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def next(self) -> None:
        asked = next(self._left, None)
        if asked is None:
            self.done.set_result(None)
            self._transport.close()
            return
        self._asked_at = time.perf_counter()
        self._transport.write(asked)

    def data_received(self, data: bytes) -> None:
        self._got += data
        head = self._got.find(b"\r\n\r\n")
        if head < 0:
            return
        length = self._got.find(b"Content-Length: ", 0, head)
        if not self._got.startswith(b"HTTP/1.1 200 ") or length < 0:
            if not self.done.done():
                self.done.set_exception(RuntimeError(self._got[:300].decode(errors="replace")))
            return
        end = self._got.find(b"\r\n", length)
        if len(self._got) < head + 4 + int(self._got[length + 16 : end]):
            return
        self._got = b""
        self._times.append((time.perf_counter() - self._asked_at) * 1000)
        self.next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionError(f"the connection ended ({exc})"))

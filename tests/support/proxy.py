"""A proxy in front of Postgres that loses connections at the worst moments, on a Unix socket of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

_SOCKET = ".s.PGSQL.5432"


class Proxy:
    """Passes bytes both ways. Arm it, and it cuts or stalls when its moment comes; `struck` counts them."""

    def __init__(self, upstream: str, folder: Path) -> None:
        self._upstream = upstream
        self._folder = folder
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stalled = asyncio.Event()
        self.before_commit = 0
        self.after_commit = 0
        self.struck = 0
        self.connections = 0
        #: How often a client asked and then waited for the server.
        self.round_trips = 0
        self.accepting = True

    @property
    def url(self) -> str:
        """The upstream's URL, by way of this proxy."""
        parts = urlsplit(self._upstream)
        return f"postgresql://{parts.username or 'postgres'}@{parts.path}?host={quote(str(self._folder))}"

    def cut_all(self) -> None:
        """Cut every connection that there is."""
        for writer in self._writers:
            writer.transport.abort()

    def stall(self) -> None:
        """From now on the connections there are stay silent, both ways, without an end: half open."""
        self._stalled.set()
        self._stalled = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.accepting:
            writer.transport.abort()
            return
        self.connections += 1
        stalled = self._stalled
        up_reader, up_writer = await self._connect()
        self._writers |= {writer, up_writer}
        pair = _Pair(self, writer, up_writer, stalled)
        await asyncio.gather(pair.forward(reader), pair.backward(up_reader))
        for each in (writer, up_writer):
            each.transport.abort()
            self._writers.discard(each)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        parts = urlsplit(self._upstream)
        host = parse_qs(parts.query).get("host", [parts.hostname or "localhost"])[0]
        if host.startswith("/"):
            return await asyncio.open_unix_connection(f"{host}/{_SOCKET}")
        return await asyncio.open_connection(host, parts.port or 5432)


class _Pair:
    """One connection through the proxy."""

    def __init__(
        self, proxy: Proxy, client: asyncio.StreamWriter, server: asyncio.StreamWriter, stalled: asyncio.Event
    ) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._stalled = stalled
        self._mute = False
        self._asked = False

    async def forward(self, reader: asyncio.StreamReader) -> None:
        async for data in _chunks(reader):
            if self._stalled.is_set():
                continue
            # asyncpg ends a transaction with a simple query: one message, one write.
            if b"COMMIT;" in data and self._proxy.before_commit:
                self._proxy.before_commit -= 1
                self._proxy.struck += 1
                break
            if b"COMMIT;" in data and self._proxy.after_commit:
                self._proxy.after_commit -= 1
                self._mute = True
            self._proxy.round_trips += not self._asked
            self._asked = True
            self._server.write(data)
        self._server.transport.abort()

    async def backward(self, reader: asyncio.StreamReader) -> None:
        async for data in _chunks(reader):
            if self._stalled.is_set():
                continue
            self._asked = False
            if self._mute:  # the server has answered: it has committed, and nobody hears of it
                self._proxy.struck += 1
                break
            self._client.write(data)
        self._client.transport.abort()


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    with suppress(ConnectionError):
        while data := await reader.read(65_536):
            yield data


@asynccontextmanager
async def proxied(upstream: str) -> AsyncIterator[Proxy]:
    folder = Path(tempfile.mkdtemp(prefix="jobyard-proxy-"))
    proxy = Proxy(upstream, folder)
    server = await asyncio.start_unix_server(_kept(proxy), str(folder / _SOCKET))
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut_all()
        await asyncio.to_thread(shutil.rmtree, folder)


def _kept(proxy: Proxy) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.CancelledError, ConnectionError, os.error):
            await proxy.serve(reader, writer)

    return serve

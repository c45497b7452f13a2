"""A way to the API on which answers to POSTs are lost, after the service has done what was asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit


class Lossy:
    """`lose` answers are still to be lost; `lost` were. `url` leads through it."""

    def __init__(self, upstream: str, lose: int) -> None:
        parts = urlsplit(upstream)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self.lose = lose
        self.lost = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(self._host, self._port)
        posted = asyncio.Event()
        asking = asyncio.create_task(_forward(reader, up_writer, posted))
        try:
            while data := await up_reader.read(65_536):
                if self.lose and posted.is_set():
                    self.lose -= 1
                    self.lost += 1
                    return
                writer.write(data)
        finally:
            asking.cancel()
            for each in (writer, up_writer):
                each.transport.abort()


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, posted: asyncio.Event) -> None:
    while data := await reader.read(65_536):
        if data.startswith(b"POST "):
            posted.set()
        writer.write(data)


@asynccontextmanager
async def lossy(upstream: str, lose: int) -> AsyncIterator[Lossy]:
    made = Lossy(upstream, lose)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.CancelledError):
            await made.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()

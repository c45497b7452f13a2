"""A door in front of a data store: it can be shut, held so that whoever knocks waits, and it counts."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from urllib.parse import urlsplit

from service.supervisor.data import StoreAccess

_REQUEST = re.compile(rb"(?:^|\n)([A-Z]+) (\S+) HTTP/1\.1\r\n")


class Door:
    """`access` leads through the door, `behind` past it. `knocked` is set when somebody waits at it.

    `asked` has the method and path of each request that went through; `got` how many bytes came back.
    """

    def __init__(self, behind: StoreAccess) -> None:
        self.behind = behind
        self.access = behind
        self.knocked = asyncio.Event()
        self._let = asyncio.Event()
        self._let.set()
        self._shut = False
        self._writers: set[asyncio.StreamWriter] = set()
        self.asked: list[str] = []
        self.got = 0

    def fetched(self) -> list[str]:
        """The keys of the objects that were read since the last time."""
        words = [line.partition("?")[0].split("/", 2) for line in self.asked if line.startswith("GET ")]
        self.asked.clear()
        return sorted(word[2] for word in words if len(word) > 2 and word[2])

    async def __aenter__(self) -> Door:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.access = replace(self.behind, endpoint=f"http://127.0.0.1:{port}")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self._cut()

    def shut(self) -> None:
        """Nobody is there any more."""
        self._shut = True
        self._cut()

    def hold(self) -> None:
        """Whoever comes is kept waiting."""
        self._let.clear()
        self._cut()

    def open(self) -> None:
        self._shut = False
        self._let.set()

    def _cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.CancelledError):
            self._writers.add(writer)
            self.knocked.set()
            await self._let.wait()
            if self._shut:
                writer.transport.abort()
                return
            target = urlsplit(self.behind.endpoint)
            up_reader, up_writer = await asyncio.open_connection(target.hostname, target.port)
            self._writers.add(up_writer)
            await asyncio.gather(_copy(reader, up_writer, self._ask), _copy(up_reader, writer, self._get))
            self._writers -= {writer, up_writer}

    def _ask(self, data: bytes) -> None:
        for line in _REQUEST.finditer(data):
            self.asked.append(f"{line[1].decode()} {line[2].decode()}")

    def _get(self, data: bytes) -> None:
        self.got += len(data)


async def _copy(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Callable[[bytes], None]
) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65_536):
            seen(data)
            writer.write(data)
            await writer.drain()
    writer.close()

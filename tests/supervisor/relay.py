"""A unix socket in front of the engine: records requests, and can go silent or hang up."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.images import docker_socket


class Relay:
    """`sent` holds all bytes that went to the engine; `cut` ends all connections; `mute` stops answers, and
    `lose` those on any connection on which a path is asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sent = bytearray()
        self._mute = False
        self._lost: bytes | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    @property
    def host(self) -> str:
        return f"unix://{self.path}"

    async def __aenter__(self) -> Relay:
        self._server = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()

    def mute(self) -> None:
        self._mute = True

    def lose(self, path: bytes) -> None:
        self._lost = path

    async def cut(self) -> None:
        """Nobody listens any more, as when the engine dies."""
        if self._server is not None:
            self._server.close()
            self.path.unlink(missing_ok=True)
        for writer in list(self._open):
            writer.transport.abort()

    def bodies(self) -> list[dict[str, Any]]:
        """The JSON bodies of the requests so far."""
        found = []
        for part in bytes(self.sent).split(b"\r\n\r\n")[1:]:
            with suppress(ValueError):
                found.append(json.JSONDecoder().raw_decode(part.decode("latin-1"))[0])
        return [body for body in found if isinstance(body, dict)]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_unix_connection(docker_socket())
        self._open |= {writer, up_writer}
        silent = asyncio.Event()
        await asyncio.gather(
            self._copy(reader, up_writer, silent, record=True),
            self._copy(up_reader, writer, silent, record=False),
        )
        self._open -= {writer, up_writer}

    async def _copy(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        silent: asyncio.Event,
        *,
        record: bool,
    ) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                if record:
                    self.sent += data
                    if self._lost is not None and self._lost in data:
                        silent.set()
                elif self._mute or silent.is_set():
                    continue
                writer.write(data)
                await writer.drain()
        writer.close()

"""A request that takes its time: its head is there, and its body comes when the test lets it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from tests.acceptance.crashing import Up


class Slow:
    """Half of it has been sent, and the service waits for the other half."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rest: bytes) -> None:
        self._reader = reader
        self._writer = writer
        self._rest = rest

    async def answer(self) -> tuple[int, Any]:
        """Send the rest; the status and what was answered."""
        self._writer.write(self._rest)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        body = await self._reader.read()
        return int(head.split()[1]), json.loads(body)


@asynccontextmanager
async def submitting(up: Up, body: dict[str, Any]) -> AsyncIterator[Slow]:
    """`POST /v1/job`, begun: the service has said that it reads the body."""
    url = urlsplit(up.told["url"])
    data = json.dumps(body).encode()
    head = (
        "POST /v1/job HTTP/1.1",
        f"Host: {url.netloc}",
        f"Authorization: Bearer {up.told['token']}",
        "Content-Type: application/json",
        f"Content-Length: {len(data)}",
        "Expect: 100-continue",
    )
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    try:
        writer.write("".join(f"{line}\r\n" for line in (*head, "")).encode())
        assert b" 100 " in await reader.readuntil(b"\r\n\r\n")
        writer.write(data[:10])
        yield Slow(reader, writer, data[10:])
    finally:
        writer.close()


async def is_refused(up: Up) -> bool:
    """Whether nobody listens any more."""
    url = urlsplit(up.told["url"])
    try:
        _, writer = await asyncio.open_connection(url.hostname, url.port)
    except ConnectionRefusedError:
        return True
    writer.close()
    return False

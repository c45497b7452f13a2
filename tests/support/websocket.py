"""A client of a websocket that does one thing at a time, as a program with one thread does."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import urlsplit

from aiohttp import WSMsgType

#: Nothing that goes well takes so long.
_STUCK_S = 20.0
#: Of zeros: what is sent stays as it is.
_MASK = bytes(4)


@dataclass(frozen=True)
class Client:
    connection: socket.socket
    file: BinaryIO

    def write_then_read(self, message: bytes, times: int) -> list[tuple[WSMsgType, bytes]]:
        """Sends a message so many times, and only then takes what was sent to it, until the closing frame,
        which it agrees to."""
        head = b"".join(iter(self.file.readline, b"\r\n"))
        assert head.startswith(b"HTTP/1.1 101 "), head
        for _ in range(times):
            self.write(message)
        frames: list[tuple[WSMsgType, bytes]] = []
        while not frames or frames[-1][0] is not WSMsgType.CLOSE:
            frames.append(self._frame())
        self.write(frames[-1][1], WSMsgType.CLOSE)
        assert self.file.read() == b"", "nothing follows the closing frame"
        return frames

    def write(self, data: bytes, kind: WSMsgType = WSMsgType.BINARY) -> None:
        size = len(data)
        length = bytes([0x80 | size]) if size < 126 else bytes([0x80 | 127]) + size.to_bytes(8, "big")
        self.connection.sendall(bytes([0x80 | kind]) + length + _MASK + data)

    def _frame(self) -> tuple[WSMsgType, bytes]:
        kind, size = self._exactly(2)
        if size >= 126:
            size = int.from_bytes(self._exactly(2 if size == 126 else 8), "big")
        return WSMsgType(kind & 0x0F), self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        data = self.file.read(size)
        assert len(data) == size, "the connection ended without a closing frame"
        return data


@contextmanager
def single_minded(url: str, path: str, headers: Mapping[str, str]) -> Iterator[Client]:
    """A websocket that is asked for. All else is for a thread of its own."""
    to = urlsplit(url)
    asked = {
        "Host": to.netloc,
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==",
        **headers,
    }
    with socket.create_connection((to.hostname, to.port), _STUCK_S) as connection:
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in asked.items()), "", ""]
        connection.sendall("\r\n".join(lines).encode())
        with connection.makefile("rb") as file:
            yield Client(connection, file)

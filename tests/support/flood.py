"""A server that floods whoever asks it, in a process of its own: as fast as one can, and without end.

`flood.py <what>`. It prints its port, and then `begun` and `left` for each connection that it floods; or, for
`nothing`, of which it takes all that comes.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
import sys
import threading
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

HEADS = {"interim": b"", "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"}
WHAT = {
    "interim": b"HTTP/1.1 100 C\r\n\r\n",
    "chunks": b"1\r\na\r\n",
    "messages": b"\x82\x01a",
    "pings": b"\x89\x00",
    "nothing": b"",
}
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def _flood(connection: socket.socket, what: str) -> None:
    head = b""
    while b"\r\n\r\n" not in head:
        part = connection.recv(65536)
        if not part:
            return
        head += part
    print("begun", flush=True)
    try:
        connection.sendall(_switched(head) if b"Sec-WebSocket-Key" in head else HEADS.get(what, b""))
        if what == "nothing":
            while connection.recv(65536):
                continue
            raise ConnectionResetError
        piece = WHAT[what] * (240_000 // len(WHAT[what]))
        while True:
            connection.sendall(piece)
    except OSError:
        print("left", flush=True)


def _switched(head: bytes) -> bytes:
    key = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
    accept = base64.b64encode(hashlib.sha1(key.partition(b": ")[2] + GUID).digest())
    return (
        b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )


class Flood:
    """The process, as a test has it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.begun = self.left = 0


@asynccontextmanager
async def flooding(what: str) -> AsyncIterator[Flood]:
    made = await asyncio.create_subprocess_exec(sys.executable, "-B", __file__, what, stdout=PIPE)
    assert made.stdout is not None
    lines, flood = made.stdout, Flood(int(await made.stdout.readline()))

    async def listen() -> None:
        async for line in lines:
            flood.begun += line == b"begun\n"
            flood.left += line == b"left\n"

    listening = asyncio.create_task(listen())
    try:
        yield flood
    finally:
        made.kill()
        await made.wait()
        await listening


if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        print(server.getsockname()[1], flush=True)
        while True:
            threading.Thread(target=_flood, args=(server.accept()[0], sys.argv[1]), daemon=True).start()

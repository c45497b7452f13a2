"""A web server for a job's container, on the standard library alone. Run by the container's own Python."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.headers.get("Upgrade", "").lower() == "websocket":
            return self.socket()
        if self.path.startswith("/big/"):
            return self.big(int(self.path.rpartition("/")[2]))
        if self.path == "/events":
            return self.events()
        if self.path == "/redirect":
            cookie = ("Set-Cookie", "a=b; Domain=x; Path=/p; HttpOnly")
            return self.answer(302, b"", [("Location", "/elsewhere"), cookie])
        return self.echo()

    def do_POST(self) -> None:
        taken = hashlib.sha256()
        size = 0
        for chunk in self.body():
            taken.update(chunk)
            size += len(chunk)
        self.echo(size=size, sha256=taken.hexdigest())

    do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_POST

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "12345")
        self.end_headers()

    def body(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().strip() or b"0", 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left:
            chunk = self.rfile.read(min(left, 65536))
            left -= len(chunk)
            yield chunk

    def echo(self, **more: object) -> None:
        port = self.connection.getsockname()[1]
        seen = {"method": self.command, "path": self.path, "headers": self.headers.items(), "port": port}
        said = [("Content-Type", "application/json"), ("X-Frame-Options", "SAMEORIGIN")]
        self.answer(200, json.dumps(seen | more).encode(), said)

    def answer(self, status: int, body: bytes, headers: list[tuple[str, str]]) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def big(self, size: int) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        block = b"x" * 65536
        while size:
            part = block[: min(size, len(block))]
            self.wfile.write(part)
            size -= len(part)

    def events(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"data: one\n\n")
        self.wfile.flush()
        time.sleep(600)

    def socket(self) -> None:
        key = self.headers["Sec-WebSocket-Key"].encode()
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", accept)
        if "echo.test" in self.headers.get("Sec-WebSocket-Protocol", ""):
            self.send_header("Sec-WebSocket-Protocol", "echo.test")
        self.end_headers()
        while True:
            head = self.rfile.read(2)
            if len(head) < 2:
                return
            size = head[1] & 127
            if size == 126:
                (size,) = struct.unpack(">H", self.rfile.read(2))
            elif size == 127:
                (size,) = struct.unpack(">Q", self.rfile.read(8))
            mask = self.rfile.read(4)
            data = bytes(byte ^ mask[i % 4] for i, byte in enumerate(self.rfile.read(size)))
            kind = head[0] & 15
            if kind == 8:
                self.frame(8, data or struct.pack(">H", 1000))
                return
            if data == b"headers":
                self.frame(1, json.dumps(self.headers.items()).encode())
                continue
            if data == b"close 4321":
                self.frame(8, struct.pack(">H", 4321))
                return
            self.frame(10 if kind == 9 else kind, data)

    def frame(self, kind: int, data: bytes) -> None:
        size = len(data)
        if size < 126:
            head = struct.pack(">BB", 128 | kind, size)
        elif size < 65536:
            head = struct.pack(">BBH", 128 | kind, 126, size)
        else:
            head = struct.pack(">BBQ", 128 | kind, 127, size)
        self.wfile.write(head + data)
        self.wfile.flush()

    def log_message(self, format: str, *_: object) -> None:
        return


if __name__ == "__main__":
    for port in sys.argv[1:]:
        server = ThreadingHTTPServer(("0.0.0.0", int(port)), Handler)
        threading.Thread(target=server.serve_forever).start()
        print("listening", flush=True)

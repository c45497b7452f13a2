"""A server that says whatever bytes a request's path spells, for a job's container. Run by its own Python.

`[/socket]/<then>/<first>[/<again>]`, both in base64url: says `first`, after a handshake where a socket is
asked for, then `close`s; `hold`s the connection until the other side leaves; says `again` `over` and over
until it does; or `much-<mebibytes>` of it, and then holds; or is `busy`, and reads nothing until `/free`, and
then holds. `/held` tells how many it has, `/left` how many have left it so, `/taken` how many bytes it read.
"""

from __future__ import annotations

import base64
import hashlib
import socket
import sys
import threading
import time

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
COUNTS = {"held": 0, "left": 0, "taken": 0, "free": 0}
FREE = threading.Event()


def serve(connection: socket.socket) -> None:
    head = b""
    while b"\r\n\r\n" not in head:
        part = connection.recv(65536)
        if not part:
            return
        head += part
    *_, then, first, again = ["", *head.split(b" ")[1].decode().split("/")]
    if again == "free":
        FREE.set()
    if again in COUNTS:
        said = str(COUNTS[again]).encode()
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(said), said))
        return
    if b"/socket/" in head:
        key = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
        accept = base64.b64encode(hashlib.sha1(key.partition(b": ")[2] + GUID).digest())
        connection.sendall(
            b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
    COUNTS["held"] += then != "close"
    say(connection, then, base64.urlsafe_b64decode(first), base64.urlsafe_b64decode(again))
    if then != "close":
        COUNTS["held"] -= 1
        COUNTS["left"] += 1


def say(connection: socket.socket, then: str, first: bytes, again: bytes) -> None:
    try:
        connection.sendall(first)
        if then.startswith("much-"):
            connection.sendall(again * (int(then[5:]) * 1024**2 // len(again)))
        if then == "close":
            connection.shutdown(socket.SHUT_WR)
        while then == "over":
            connection.sendall(again)
            time.sleep(0.0005)  # without end is enough: it need not take a processor from other tests
        if then == "busy":
            FREE.wait()
        while part := connection.recv(65536):
            COUNTS["taken"] += len(part)
    except OSError:
        print("it left without a word", flush=True)


def handled(connection: socket.socket) -> None:
    with connection:
        serve(connection)


if __name__ == "__main__":
    with socket.create_server(("0.0.0.0", int(sys.argv[1])), backlog=64) as server:
        print("listening", flush=True)
        while True:
            threading.Thread(target=handled, args=(server.accept()[0],)).start()

"""A machine beyond the node, in a network namespace: what a cloud's metadata service is to a container."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

#: In the block of metadata addresses, and of nobody: a real one (169.254.169.254) must not be taken away from
#: this machine. Others that run these tests here at the same time have other numbers.
_NUMBER = os.getpid() % 16_000
METADATA = f"169.254.{_NUMBER // 250 + 1}.{_NUMBER % 250 + 1}"
_HERE, _THERE = (f"198.18.{_NUMBER // 64}.{_NUMBER % 64 * 4 + end}" for end in (1, 2))

_SERVER = """
import socket
server = socket.create_server(("0.0.0.0", 80))
print("ready", flush=True)
while True:
    server.accept()[0].close()
"""


@dataclass(frozen=True)
class Beyond:
    """The same server by two addresses (`host:port`): one of metadata, and one that jobs may go to."""

    metadata: str
    control: str


@contextmanager
def beyond() -> Iterator[Beyond]:
    """As long as it lasts. Needs root."""
    name = f"jy{_NUMBER}"
    link, peer = f"{name}a", f"{name}b"
    _ip("netns", "add", name)
    try:
        _ip("link", "add", link, "type", "veth", "peer", "name", peer, "netns", name)
        _ip("addr", "add", f"{_HERE}/30", "dev", link)
        _ip("link", "set", link, "up")
        for words in (
            ("addr", "add", f"{_THERE}/30", "dev", peer),
            ("addr", "add", f"{METADATA}/32", "dev", "lo"),
            ("link", "set", peer, "up"),
            ("link", "set", "lo", "up"),
            ("route", "add", "default", "via", _HERE),
        ):
            _ip("-n", name, *words)
        _ip("route", "add", f"{METADATA}/32", "via", _THERE, "dev", link)
        command = ["ip", "netns", "exec", name, sys.executable, "-c", _SERVER]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None and server.stdout.readline() == "ready\n"
                yield Beyond(f"{METADATA}:80", f"{_THERE}:80")
            finally:
                server.kill()
    finally:
        _ip("netns", "del", name)  # its links, and the route through them, go with it


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)

"""A real S3 server for the tests: the one that JOBYARD_TEST_S3 names, or `rclone serve s3` of our own."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.local.objectstore import free_port
from service.supervisor.data import StoreAccess


def rclone_binary() -> str:
    """The rclone of this environment."""
    found = shutil.which("rclone", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert found, "rclone is missing: install the requirements"
    return found


@contextmanager
def the_store() -> Iterator[StoreAccess]:
    """The store to test against, alive until the block ends."""
    given = os.environ.get("JOBYARD_TEST_S3")
    if given:
        told = json.loads(given)
        yield StoreAccess(told["endpoint"], told["region"], told["accessKey"], told["secretKey"])
        return
    with tempfile.TemporaryDirectory() as folder, rclone(Path(folder)) as access:
        yield access


@contextmanager
def rclone(folder: Path) -> Iterator[StoreAccess]:
    """`rclone serve s3` of `folder` on a free loopback port."""
    port = free_port()
    access = StoreAccess(
        f"http://127.0.0.1:{port}", "us-east-1", secrets.token_hex(10), secrets.token_hex(20)
    )
    command = [
        rclone_binary(),
        "serve",
        "s3",
        str(folder),
        "--addr",
        f"127.0.0.1:{port}",
        "--etag-hash",
        "MD5",
    ]
    settings = {"RCLONE_AUTH_KEY": f'"{access.access_key},{access.secret_key}"', "RCLONE_CONFIG": os.devnull}
    with subprocess.Popen(command, env=os.environ | settings, stderr=subprocess.DEVNULL) as server:
        try:
            _listening(port, server)
            yield access
        finally:
            server.terminate()


def _listening(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        assert server.poll() is None, "rclone ended at once"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            server_gone = server.poll()
            assert server_gone is None
        else:
            return
    raise AssertionError("rclone did not listen in time")

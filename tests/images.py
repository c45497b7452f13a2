"""Images for tests, made on the spot: a static busybox imported as a one-layer linux/amd64 image."""

from __future__ import annotations

import http.client
import io
import json
import os
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

from service.local.demo import python_image

BUSYBOX = "jobyard-test/busybox:1"
"""Has `/bin/sh` and every other applet, a world-writable /tmp, and no command of its own."""

GREETER = "jobyard-test/greeter:1"
"""Like BUSYBOX, with an entrypoint and a command: says `hello world`."""

KEEPS_TMP = "jobyard-test/keeps-tmp:1"
"""Like BUSYBOX, with a volume of its own at /tmp."""


#: Another engine on this machine can be at work on the same firewall at that moment.
NETWORK_ATTEMPTS = 10


def docker_socket() -> str:
    """The unix socket of the engine under test, from DOCKER_HOST."""
    return os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")


def import_busybox(name: str = BUSYBOX, *, changes: tuple[str, ...] = ()) -> str:
    """Make the image if the engine does not hold it yet; answers its name."""
    return _imported(name, _root_filesystem, ("ENV PATH=/bin", *changes))


def import_python() -> str:
    """An image of this machine's own Python; answers its name."""

    def packed() -> bytes:
        into = io.BytesIO()
        python_image.write(into)
        return into.getvalue()

    return _imported(python_image.NAME, packed, python_image.CHANGES)


def _imported(name: str, packed: Callable[[], bytes], changes: tuple[str, ...]) -> str:
    if _request("GET", f"/images/{name}/json")[0] == 200:
        return name
    repository, _, tag = name.rpartition(":")
    query = [("fromSrc", "-"), ("repo", repository), ("tag", tag), ("platform", "linux/amd64")]
    query += [("changes", change) for change in changes]
    status, answer = _request("POST", f"/images/create?{urlencode(query)}", packed())
    if status != 200 or b'"error"' in answer:
        raise RuntimeError(f"import of {name} failed: {status} {answer!r}")
    return name


def import_greeter() -> str:
    """Make GREETER if need be; answers its name."""
    return import_busybox(GREETER, changes=('ENTRYPOINT ["/bin/echo", "hello"]', 'CMD ["world"]'))


def import_keeps_tmp() -> str:
    """Make KEEPS_TMP if need be; answers its name."""
    return import_busybox(KEEPS_TMP, changes=("VOLUME /tmp",))


def image_id(name: str) -> str:
    return str(json.loads(_request("GET", f"/images/{name}/json")[1])["Id"])


def make_network(name: str, *, unique: bool = True) -> str:
    """A bridge for tests, so that they need no default bridge; answers its id."""
    body = json.dumps({"Name": name, "Driver": "bridge", "CheckDuplicate": unique}).encode()
    for _ in range(NETWORK_ATTEMPTS):
        status, answer = _request("POST", "/networks/create", body, "application/json")
        if status == 201 or b"ip tables" not in answer.lower().replace(b"iptables", b"ip tables"):
            break
        time.sleep(0.2)  # another dockerd of this machine makes its chains anew
    if status != 201:
        raise RuntimeError(f"network {name} failed: {status} {answer!r}")
    return str(json.loads(answer)["Id"])


def networks_named(name: str) -> list[str]:
    """Ids of all networks of exactly this name."""
    answer = json.loads(_request("GET", "/networks")[1])
    return [str(network["Id"]) for network in answer if network["Name"] == name]


def remove_network(network: str) -> None:
    status, answer = _request("DELETE", f"/networks/{network}")
    if status != 204:
        raise RuntimeError(f"network {network} is still there: {status} {answer!r}")


def remove_image(ref: str) -> None:
    status, answer = _request("DELETE", f"/images/{ref}?force=1")
    if status != 200:
        raise RuntimeError(f"image {ref} is still there: {status} {answer!r}")


def _root_filesystem() -> bytes:
    found = shutil.which("busybox")
    if found is None:
        raise RuntimeError("a static busybox is needed to make test images")
    applets = subprocess.run([found, "--list"], capture_output=True, text=True, check=True).stdout.split()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for directory, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777)):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)
        binary = Path(found).read_bytes()
        entry = tarfile.TarInfo("bin/busybox")
        entry.mode, entry.size = 0o755, len(binary)
        tar.addfile(entry, io.BytesIO(binary))
        for applet in applets:
            if applet != "busybox":
                entry = tarfile.TarInfo(f"bin/{applet}")
                entry.type, entry.linkname, entry.mode = tarfile.LNKTYPE, "bin/busybox", 0o755
                tar.addfile(entry)
    return buffer.getvalue()


class _UnixConnection(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(docker_socket())


def _request(
    method: str, path: str, body: bytes | None = None, kind: str = "application/x-tar"
) -> tuple[int, bytes]:
    connection = _UnixConnection("localhost")
    try:
        connection.request(method, path, body, {"Content-Type": kind} if body else {})
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()

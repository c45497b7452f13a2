"""A real registry that asks for a password: Debian's `docker-registry` on loopback, and images for it."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from service.local import apt, processes
from service.local.objectstore import free_port
from service.local.processes import Process
from tests.support.waiting import until

#: Who may pull and push. The hashes are bcrypt of these passwords: the registry reads no others.
USERS = {"ann": "anns-pass-word", "bob": "bobs-pass-word"}
_HTPASSWD = """\
ann:$2b$05$abcdefghijklmnopqrstuur2ot8fd8ju.YBv6cR/n/EUsO3/WQL2K
bob:$2b$05$abcdefghijklmnopqrstuud9KDLmlb0nYwaPbnxi73TSzcUog5Dsy
"""
_CONFIG = """\
version: 0.1
log: {{level: warn}}
storage: {{filesystem: {{rootdirectory: {root}}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}"}}
auth: {{htpasswd: {{realm: jobyard-tests, path: {htpasswd}}}}}
"""
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_IMAGE = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


class RegistryServer:
    """The server, its files below `state`. `address` is known once it runs."""

    def __init__(self, state: Path) -> None:
        self._state = state / "registry"
        self._process: Process | None = None
        self.address = ""

    @property
    def told(self) -> str:
        """What the environment tells tests of it."""
        return json.dumps({"address": self.address, "users": USERS})

    async def start(self) -> None:
        if shutil.which("docker-registry") is None:
            apt.install(["docker-registry"], why="the tests' private registry", say=print)
        self._state.mkdir()
        port = free_port()
        htpasswd, config = self._state / "htpasswd", self._state / "config.yml"
        htpasswd.write_text(_HTPASSWD)
        config.write_text(_CONFIG.format(root=self._state / "data", port=port, htpasswd=htpasswd))
        environ = {name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_")}
        self._process = processes.start(
            "docker-registry",
            # Nobody would find it again after a killed test run, as the other parts are found.
            ["setpriv", "--pdeathsig", "KILL", "docker-registry", "serve", str(config)],
            pidfile=self._state / "pid",
            log=self._state / "log",
            environ=environ,
        )
        self.address = f"127.0.0.1:{port}"
        await until(self._answers, what=f"a registry at {self.address}")

    async def stop(self) -> None:
        if self._process is not None:
            await self._process.stop(grace_s=2)
            self._process = None

    async def _answers(self) -> bool:
        assert self._process is not None and self._process.is_alive(), (self._state / "log").read_text()
        try:
            async with aiohttp.ClientSession() as http, http.get(f"http://{self.address}/v2/") as reply:
                return reply.status == 401
        except aiohttp.ClientError:
            return False


@dataclass(frozen=True)
class PrivateRegistry:
    """A registry that runs, and a user of it."""

    address: str
    user: str
    password: str

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    async def push(self, name: str, tag: str, *, architecture: str = "amd64", mark: str = "") -> str:
        """An image of a static busybox, different for each `mark`; the digest of its manifest."""
        headers = {"Authorization": aiohttp.encode_basic_auth(self.user, self.password)}
        async with aiohttp.ClientSession(f"http://{self.address}", headers=headers) as http:
            layer = _layer()
            config = {
                "architecture": architecture,
                "os": "linux",
                "config": {"Env": ["PATH=/bin", f"MARK={mark}"], "Cmd": ["/bin/true"]},
                "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
            }
            manifest: dict[str, Any] = {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": await _blob(http, name, json.dumps(config).encode(), _IMAGE),
                "layers": [await _blob(http, name, gzip.compress(layer, mtime=0), _LAYER)],
            }
            body = json.dumps(manifest).encode()
            kind = {"Content-Type": _MANIFEST}
            async with http.put(f"/v2/{name}/manifests/{tag}", data=body, headers=kind) as reply:
                assert reply.status == 201, await reply.text()
            return _digest(body)


def the_registry() -> PrivateRegistry:
    """The one that the environment names."""
    told = json.loads(os.environ["JOBYARD_TEST_REGISTRY"])
    user, password = next(iter(told["users"].items()))
    return PrivateRegistry(told["address"], user, password)


async def _blob(http: aiohttp.ClientSession, name: str, data: bytes, kind: str) -> dict[str, Any]:
    async with http.post(f"/v2/{name}/blobs/uploads/") as begun:
        assert begun.status == 202, await begun.text()
        place = begun.headers["Location"]
    joint = "&" if "?" in place else "?"
    async with http.put(f"{place}{joint}digest={_digest(data)}", data=data) as done:
        assert done.status == 201, await done.text()
    return {"mediaType": kind, "size": len(data), "digest": _digest(data)}


def _layer() -> bytes:
    """`/bin/busybox` and three of its names."""
    found = shutil.which("busybox")
    assert found, "a static busybox is needed to make test images"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        folder = tarfile.TarInfo("bin")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(folder)
        binary = Path(found).read_bytes()
        entry = tarfile.TarInfo("bin/busybox")
        entry.mode, entry.size = 0o755, len(binary)
        tar.addfile(entry, io.BytesIO(binary))
        for applet in ("sh", "true", "echo"):
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname, link.mode = tarfile.LNKTYPE, "bin/busybox", 0o755
            tar.addfile(link)
    return buffer.getvalue()


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()

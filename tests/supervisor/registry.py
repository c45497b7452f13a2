"""A tiny image registry on loopback, with the faults registries have."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable

from aiohttp import web


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Registry:
    """Serves `<name>:<tag>` images of one random-looking layer. `address` is known once it runs.

    `fault` is asked with each path: a status to answer with, or None. `hold` keeps blobs back while set.
    """

    def __init__(self) -> None:
        self.address = ""
        self.requests: list[str] = []
        self.authorizations: list[str | None] = []
        self.fault: Callable[[str], int | None] = lambda _: None
        self.hold: asyncio.Event | None = None
        self.asked_for_blob = asyncio.Event()
        self._manifests: dict[str, bytes] = {}
        self._blobs: dict[str, bytes] = {}
        app = web.Application()
        app.router.add_get("/v2/{path:.*}", self._serve)
        self._runner = web.AppRunner(app)

    async def __aenter__(self) -> Registry:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.address = f"{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.hold is not None:
            self.hold.set()
        await self._runner.cleanup()

    def add(self, name: str, tag: str, *, architecture: str = "amd64", content: bytes = b"x") -> str:
        """Add an image; answers its manifest's digest."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            entry = tarfile.TarInfo("file")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        layer = gzip.compress(buffer.getvalue(), mtime=0)
        config = json.dumps(
            {
                "architecture": architecture,
                "os": "linux",
                "config": {"Cmd": ["/file"]},
                "rootfs": {"type": "layers", "diff_ids": [_digest(buffer.getvalue())]},
            }
        ).encode()
        kind = "application/vnd.docker.distribution.manifest.v2+json"
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": kind,
                "config": self._blob(config, "application/vnd.docker.container.image.v1+json"),
                "layers": [self._blob(layer, "application/vnd.docker.image.rootfs.diff.tar.gzip")],
            }
        ).encode()
        for reference in (tag, _digest(manifest)):
            self._manifests[f"{name}/manifests/{reference}"] = manifest
        return _digest(manifest)

    def _blob(self, data: bytes, kind: str) -> dict[str, object]:
        self._blobs[_digest(data)] = data
        return {"mediaType": kind, "size": len(data), "digest": _digest(data)}

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"]
        self.requests.append(path)
        self.authorizations.append(request.headers.get("Authorization"))
        status = self.fault(path)
        if status is not None:
            headers = {"WWW-Authenticate": 'Basic realm="test"'} if status == 401 else {}
            return web.json_response({"errors": [{"code": _CODES[status]}]}, status=status, headers=headers)
        if path in self._manifests:
            body = self._manifests[path]
            kind = str(json.loads(body)["mediaType"])
            return web.Response(
                body=body, headers={"Content-Type": kind, "Docker-Content-Digest": _digest(body)}
            )
        blob = self._blobs.get(path.rpartition("/blobs/")[2])
        if blob is not None:
            self.asked_for_blob.set()
            if self.hold is not None:
                await self.hold.wait()
            return web.Response(body=blob)
        if path == "":
            return web.json_response({})
        return web.json_response({"errors": [{"code": "MANIFEST_UNKNOWN"}]}, status=404)


_CODES = {401: "UNAUTHORIZED", 403: "DENIED", 429: "TOOMANYREQUESTS", 500: "UNKNOWN", 503: "UNAVAILABLE"}

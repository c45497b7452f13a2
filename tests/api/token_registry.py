"""What a registry can answer to somebody who tries credentials: a page of behaviours on a loopback port."""

from __future__ import annotations

import base64
from typing import Any

from aiohttp import web

USER, PASSWORD, TOKEN = "ann", "the-right-one", "a-token"
_VERSION = {"Docker-Distribution-Api-Version": "registry/2.0"}


class TokenRegistry:
    """Asks for a Bearer token, which `/token` on `realm` (its own address unless set) gives for a password.

    `answers`, when set, is what `/v2/` answers instead. `seen` are the paths and Authorization headers.
    """

    def __init__(self) -> None:
        self.address = ""
        self.realm = ""
        self.answers: web.Response | None = None
        self.seen: list[tuple[str, str | None]] = []
        app = web.Application()
        app.router.add_get("/v2/", self._api)
        app.router.add_get("/token", self._token)
        self._runner = web.AppRunner(app)

    async def __aenter__(self) -> TokenRegistry:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.address = f"{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _api(self, request: web.Request) -> web.StreamResponse:
        given = request.headers.get("Authorization")
        self.seen.append((request.path, given))
        if self.answers is not None:
            return self.answers
        if given == f"Bearer {TOKEN}":
            return web.json_response({}, headers=_VERSION)
        realm = self.realm or f"http://{self.address}/token"
        challenge = f'Bearer realm="{realm}",service="registry.test",scope="a:b,c"'
        return web.json_response({}, status=401, headers=_VERSION | {"WWW-Authenticate": challenge})

    async def _token(self, request: web.Request) -> web.StreamResponse:
        given = request.headers.get("Authorization")
        self.seen.append((request.path_qs, given))
        word = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        asked: dict[str, Any] = dict(request.query)
        if given != f"Basic {word}" or asked != {"account": USER, "service": "registry.test"}:
            return web.json_response({"errors": []}, status=401)
        return web.json_response({"token": TOKEN})

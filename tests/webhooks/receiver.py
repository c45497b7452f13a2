"""A real HTTP(S) server on loopback that takes webhooks, and does with them what a test says."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web
from standardwebhooks import Webhook as Verifier

from tests.support.waiting import until


class Got(msgspec.Struct):
    """One request: its headers by lower-case name, its body as it came and as JSON."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    status: int = 0

    @property
    def event(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def position(self) -> int:
        return int(self.event["id"])

    @property
    def line(self) -> str:
        found: str = self.event.get("job", "")
        return found

    def verified(self, secret: str) -> Any:
        """The event, after the published library found the signature good."""
        return Verifier(secret).verify(self.body, dict(self.headers))


Judge = Callable[[Got], int | web.StreamResponse | Awaitable[int | web.StreamResponse]]


@dataclass
class Receiver:
    """`judge` answers each request with a status or a response; `got` is all that came, in order."""

    url: str = ""
    judge: Judge = lambda _got: 204
    got: list[Got] = field(default_factory=list)

    @property
    def taken(self) -> list[Got]:
        return [each for each in self.got if 200 <= each.status < 300]

    def positions(self, line: str | None = None) -> list[int]:
        """Of what was taken, in the order it came."""
        return [each.position for each in self.taken if line in (None, each.line)]

    async def until_taken(self, *positions: int) -> None:
        await until(
            lambda: set(positions) <= set(self.positions()),
            what=f"taking {positions}; got {[(each.position, each.status) for each in self.got]}",
        )

    async def until_asked(self, times: int) -> None:
        await until(lambda: len(self.got) >= times, what=f"{times} requests; got {len(self.got)}")

    async def handle(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        got = Got(request.path_qs, headers, await request.read())
        self.got.append(got)
        judged = self.judge(got)
        if isinstance(judged, Awaitable):
            judged = await judged
        if isinstance(judged, web.StreamResponse):
            got.status = judged.status
            return judged
        got.status = judged
        return web.Response(status=judged)


@asynccontextmanager
async def a_receiver(certificate: Path | None = None, judge: Judge | None = None) -> AsyncIterator[Receiver]:
    """A receiver for as long as the context lasts; with TLS when it is given a key and certificate."""
    receiver = Receiver()
    if judge is not None:
        receiver.judge = judge
    app = web.Application(client_max_size=2**24)
    app.router.add_route("*", "/{tail:.*}", receiver.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    context = None
    if certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port = runner.addresses[0][1]
    receiver.url = f"{'http' if context is None else 'https'}://127.0.0.1:{port}/hook"
    try:
        yield receiver
    finally:
        await runner.cleanup()

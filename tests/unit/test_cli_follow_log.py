"""`jobyard job logs --follow` against a real server whose connections break off."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from service.cli import watch
from service.cli.client import Client
from service.cli.where import Where
from service.errors import Unauthenticated, Unavailable

_ASKED: dict[str, Any] = {"tail": None, "since": None, "run": None, "timestamps": None}


class _Service:
    """Each connection to the log gets what there is of it by then, and is cut off, but for the last."""

    def __init__(self, *logs: bytes, refuses: bool = False) -> None:
        self.logs = list(logs)
        self.refuses = refuses
        self.asked: list[dict[str, str]] = []

    async def log(self, request: web.Request) -> web.StreamResponse:
        if self.asked and self.refuses:
            return web.json_response(
                {"message": "the token was revoked", "code": "unauthenticated"}, status=401
            )
        self.asked.append(dict(request.query))
        reply = web.StreamResponse()
        await reply.prepare(request)
        text = self.logs.pop(0)
        for begin in range(0, len(text), 3):
            await reply.write(text[begin : begin + 3])
        if self.logs or self.refuses:
            assert request.transport is not None
            await asyncio.sleep(0)
            request.transport.close()
        return reply

    async def job(self, _: web.Request) -> web.Response:
        return web.json_response({"status": {"run": 2}})

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        app = web.Application()
        app.add_routes([web.get("/v1/job/j/log", self.log), web.get("/v1/job/j", self.job)])
        app.add_routes([web.get("/v1/me", self.job)])
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            port = runner.addresses[0][1]
            async with Client(Where(f"http://127.0.0.1:{port}", "x")) as client:
                yield client
        finally:
            await runner.cleanup()


async def followed(service: _Service, **asked: Any) -> str:
    out = io.BytesIO()
    async with service.client() as client:
        await watch.follow_log(client, "/job/j", out, lambda _: None, _ASKED | asked)
    return out.getvalue().decode()


async def test_it_goes_on_where_it_broke_off() -> None:
    """Nothing comes twice and nothing is missed; a later run, which has another log, is not taken for it."""
    service = _Service(b"one\ntw", b"one\ntwo\n", b"one\ntwo\nthree\n")
    assert await followed(service, since="2026-01-31T12:00:00Z") == "one\ntwo\nthree\n"
    asked = {"follow": "true", "run": "2", "since": "2026-01-31T12:00:00Z"}
    assert service.asked == [asked] * 3


async def test_a_revoked_token_ends_it() -> None:
    with pytest.raises(Unauthenticated):
        await followed(_Service(b"one\n", refuses=True))


async def test_the_last_lines_are_not_taken_for_the_first() -> None:
    service = _Service(b"two\n", b"three\n")
    with pytest.raises(Unavailable):
        await followed(service, tail=1)
    assert len(service.asked) == 1

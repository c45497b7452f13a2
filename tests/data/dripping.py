"""A store that sends what it has byte by byte."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from aiohttp import web

from tests.data.canned import Canned

DRIP_S = 0.02
ETAG = "0" * 32 + "-2"


class Dripping(Canned):
    """Of its objects, or its listing, come `step` bytes at a time, with a pause behind each."""

    def __init__(self, body: bytes, *, step: int = 10, pause_s: float = DRIP_S, lists: bool = False) -> None:
        super().__init__(["x"], body, ETAG)
        self._step, self._pause_s, self._lists = step, pause_s, lists

    async def answer(self, request: web.Request) -> web.StreamResponse:
        said = await super().answer(request)
        assert isinstance(said, web.Response)
        if ("list-type" in request.query) != self._lists:
            return said
        assert isinstance(said.body, bytes)
        headers = {name: said.headers[name] for name in ("ETag", "Content-Range") if name in said.headers}
        dripping = web.StreamResponse(
            status=said.status, headers=headers | {"Content-Length": str(len(said.body))}
        )
        await dripping.prepare(request)
        with suppress(ConnectionError):  # whoever asked has given it up
            for start in range(0, len(said.body), self._step):
                await dripping.write(said.body[start : start + self._step])
                await self.pause()
        return dripping

    async def pause(self) -> None:
        await asyncio.sleep(self._pause_s)

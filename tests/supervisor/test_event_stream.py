"""The engine's stream of events, when it says what nobody understands: it ends, and is taken up anew."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from service.errors import Unavailable
from service.supervisor.engine.docker import DockerEngine

DEADLINE_S = 60


@pytest.mark.parametrize(
    "line", ["[]", "7", '"x"', "null", "{}", "{", '{"Actor": 1}', '{"Actor": {"ID": "a"}}']
)
async def test_a_stream_that_makes_no_sense_ends(line: str) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        if not request.path.endswith("/events"):
            return web.json_response({"ApiVersion": "1.41"})
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(line.encode() + b"\n")
        await asyncio.sleep(DEADLINE_S)
        return response

    app = web.Application()
    app.router.add_route("*", "/{anything:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    engine = DockerEngine(f"tcp://127.0.0.1:{runner.addresses[0][1]}")
    try:
        async with asyncio.timeout(DEADLINE_S):
            with pytest.raises(Unavailable, match="the event stream broke"):
                async for _ in engine.events():
                    pass
    finally:
        await engine.close()
        await runner.cleanup()

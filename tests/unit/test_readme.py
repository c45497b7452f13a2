"""The README's program that follows events: what passes it waits for, what does not pass ends it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from asyncio.subprocess import PIPE
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

README = Path(__file__).parents[2] / "README.md"
Answer = Callable[[web.Request], Coroutine[Any, Any, web.StreamResponse]]


def program() -> str:
    """As it stands there, but for its pause."""
    found: list[str] = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (text,) = (each for each in found if "ws_connect" in each)
    assert "asyncio.sleep(1)" in text
    return text.replace("asyncio.sleep(1)", "asyncio.sleep(0.01)")


def refuses(status: int) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response({"message": "no"}, status=status)

    return answer


def tells(*events: dict[str, Any]) -> Answer:
    """A stream that ends after these, as when the service restarts."""

    async def answer(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        for event in events:
            await socket.send_str(json.dumps(event))
        await socket.close(code=1012)
        return socket

    return answer


async def breaks_off(request: web.Request) -> web.StreamResponse:
    """The first time, on a connection that was used before, aiohttp itself asks once more."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def done(position: int) -> dict[str, Any]:
    data = {"info": {"message": "The job ended normally."}}
    return {"id": str(position), "type": "jobyard.RunFinalized", "job": f"job-{position}", "data": data}


async def followed(*answers: Answer) -> tuple[list[str], str, list[str]]:
    """What the program printed, how it ended, and the position it came with each time."""
    asked: list[str] = []
    rest = iter(answers)

    async def events(request: web.Request) -> web.StreamResponse:
        asked.append(request.query["after"])
        return await next(rest)(request)

    app = web.Application()
    app.router.add_get("/v1/events", events)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    where = {"JOBYARD_URL": f"http://127.0.0.1:{runner.addresses[0][1]}", "JOBYARD_TOKEN": "t"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program()), stdout=PIPE, stderr=PIPE, env=os.environ | where
    )
    try:
        async with asyncio.timeout(60):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await runner.cleanup()
    return out.decode().splitlines(), err.decode().strip().splitlines()[-1], asked


@pytest.mark.parametrize("last", [400, 401, 403])
async def test_it_goes_on_after_all_that_passes_and_stops_at_a_refusal(last: int) -> None:
    hello = {"type": "jobyard.hello", "data": {"position": 5}}
    printed, ended, asked = await followed(
        refuses(503),
        tells(hello, done(7)),
        refuses(429),
        breaks_off,
        breaks_off,
        refuses(503),
        tells(done(9)),
        refuses(last),
    )
    assert printed == [f"{at} job-{at} The job ended normally." for at in (7, 9)]
    assert asked == ["0", "0", "7", "7", "7", "7", "7", "9"]
    assert ended.startswith(f"aiohttp.client_exceptions.WSServerHandshakeError: {last}")

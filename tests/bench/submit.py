"""How many jobs a second POST /v1/job takes, against an aiohttp server that only echoes.

Both serve from a process of their own, over 64 connections, with uvloop and msgspec. Ours is one API
process with authentication, validation, quota, folds and a durable commit behind every answer.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import msgspec
import uvloop
from aiohttp import web

from service import app
from service.config import read_settings
from service.ledger.ledger import Ledger
from service.local import first_run
from service.telemetry import set_up_logging
from service.vault import master_key
from tests.bench import yard
from tests.bench.measure import Measure, compare

Target = Callable[[str, str, Connection], Coroutine[Any, Any, None]]

CONNECTIONS = 64
REQUESTS = 2000
BODY = msgspec.json.encode({"image": "busybox", "resources": {"cpu": 1}, "command": ["true"]})


async def bench() -> list[Measure]:
    with TemporaryDirectory(prefix="jobyard-bench-") as folder:
        async with (
            yard.database() as url,
            _server(_echo, url, folder) as echo,
            _server(_jobyard, url, folder) as ours,
        ):
            return [
                await compare(
                    "POST /v1/job, 64 connections",
                    "requests",
                    lambda: _rate(*echo),
                    lambda: _rate(*ours),
                )
            ]


async def _rate(url: str, token: str) -> float:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    left = REQUESTS

    async def one(session: aiohttp.ClientSession) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            async with session.post(url, data=BODY) as response:
                if response.status != 200:
                    raise RuntimeError(f"{response.status} {await response.text()}")
                await response.read()

    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        began = time.perf_counter()
        await asyncio.gather(*(one(session) for _ in range(CONNECTIONS)))
        return REQUESTS / (time.perf_counter() - began)


@asynccontextmanager
async def _server(target: Target, url: str, folder: str) -> AsyncIterator[tuple[str, str]]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_run, args=(target, url, folder, there), daemon=True)
    process.start()
    try:
        address, token = await asyncio.to_thread(here.recv)
        yield address, token
    finally:
        process.terminate()
        await asyncio.to_thread(process.join)


def _run(target: Target, url: str, folder: str, ready: Connection) -> None:
    with Path(os.devnull).open("w") as nowhere:
        set_up_logging(file=nowhere)  # a line a request costs what it always costs, and nobody reads 12,000
        uvloop.run(target(url, folder, ready))


async def _echo(_url: str, _folder: str, ready: Connection) -> None:
    encoder, decoder = msgspec.json.Encoder(), msgspec.json.Decoder()

    async def handle(request: web.Request) -> web.Response:
        return web.Response(body=encoder.encode(decoder.decode(await request.read())))

    application = web.Application()
    application.router.add_post("/v1/job", handle)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    listening = app.listening_socket("127.0.0.1", 0, shared=False)
    await web.SockSite(runner, listening).start()
    ready.send((_address(listening), ""))
    await asyncio.Event().wait()


async def _jobyard(url: str, folder: str, ready: Connection) -> None:
    settings = read_settings(
        {}, state_dir=Path(folder), default_quota_cpu=1_000_000, default_quota_gpu=1_000_000
    )
    async with Ledger.open(url, master_key(None, settings.master_key_file)) as ledger:
        token = await first_run.prepare(ledger, settings, None)
        listening = app.listening_socket("127.0.0.1", 0, shared=False)
        async with app.api(settings, ledger, listening, "unix:///run/not-asked.sock"):
            ready.send((_address(listening), token))
            await asyncio.Event().wait()


def _address(listening: socket.socket) -> str:
    return f"http://127.0.0.1:{listening.getsockname()[1]}/v1/job"

"""How many requests a second one API process answers, against aiohttp servers that do next to nothing.

Bare POST: decodes the body with msgspec and answers with it. Bare GET: answers 2 KB that were made before.
Ours: `POST /v1/job` with authentication, validation, quota, folds and a durable commit behind every answer,
and `GET /v1/job/{id}` from the job's row. All serve from a process of their own, with uvloop, and are
asked by the same generator (`load`) over 64 connections. Of two cores, the server has one; bare, the
generator has the other to itself, and ours, it shares that with Postgres.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import socket
import statistics
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import aiohttp
import msgspec
import uvloop
from aiohttp import web

from service import app
from service.config import read_settings
from service.ledger.ledger import Ledger
from service.local import first_run
from service.memory import collect_seldom
from service.telemetry import set_up_logging
from service.vault import master_key
from tests.bench import slurm, yard
from tests.bench.load import CONNECTIONS, Load, generator, request
from tests.bench.measure import Figure, Measure, quick, summed_up

Target = Callable[[str, str, Connection], Coroutine[Any, Any, None]]

ROUNDS = 5
BODY = msgspec.json.encode({"image": "busybox", "resources": {"cpu": 1}, "command": ["true"]})


async def bench() -> AsyncGenerator[Measure | Figure, None]:
    requests = 1000 if quick() else 4000
    with TemporaryDirectory(prefix="jobyard-bench-") as folder:
        async with (
            yard.database() as url,
            server(_bare, url, folder) as (bare, _),
            server(jobyard, url, folder) as (ours, token),
            generator() as load,
        ):
            post = request("POST", "/v1/job", token, BODY)
            for measure in await _compared(
                "POST /v1/job", 0.20, 60.0, load, (bare, [post]), (ours, [post]), requests
            ):
                yield measure
            if (against := await _against_slurm(load, (ours, [post]))) is not None:
                yield against
            paths = [f"/v1/job/{job}" for job in await _submitted(ours, token, 200)]
            read = [request("GET", path, token) for path in paths]
            for measure in await _compared(
                "GET /v1/job/{id}", 0.25, None, load, (bare, read), (ours, read), requests
            ):
                yield measure


async def _against_slurm(load: Load, ours: tuple[str, list[bytes]]) -> Measure | None:
    """POST against `sbatch`, on a machine that has it."""
    name = f"POST /v1/job, {CONNECTIONS} connections, against sbatch"
    if (reason := await slurm.why_not()) is not None:
        print(f"{name}: {reason}", file=sys.stderr, flush=True)
        return None
    asked, submitted = (500, 50) if quick() else (2000, 200)
    rounds = [
        (await slurm.rate(submitted, CONNECTIONS), (await load.ask(*ours, asked)).rate) for _ in range(ROUNDS)
    ]
    return summed_up(name, "jobs", rounds, target=10)


async def _compared(
    name: str,
    target: float,
    most_ms: float | None,
    load: Load,
    bare: tuple[str, list[bytes]],
    ours: tuple[str, list[bytes]],
    count: int,
) -> list[Measure | Figure]:
    """The ratio of the rates, and the 99th percentile of our times."""
    await load.ask(*bare, count)
    await load.ask(*ours, count)
    rounds = [(await load.ask(*bare, count), await load.ask(*ours, count)) for _ in range(ROUNDS)]
    rates = [(limit.rate, mine.rate) for limit, mine in rounds]
    slowest = statistics.median(mine.percentile(0.99) for _, mine in rounds)
    return [
        summed_up(f"{name}, {CONNECTIONS} connections", "requests", rates, target=target),
        Figure(f"{name}, {CONNECTIONS} connections: p99", "ms", slowest, target=most_ms),
    ]


async def _submitted(url: str, token: str, count: int) -> list[str]:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(headers=headers) as session:
        found = []
        for _ in range(count):
            async with session.post(f"{url}/v1/job", data=BODY) as response:
                found.append((await response.json())["id"])
        return found


@asynccontextmanager
async def server(target: Target, url: str, folder: str) -> AsyncIterator[tuple[str, str]]:
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
        set_up_logging(file=nowhere)  # a line a request costs what it always costs, and nobody reads 20,000
        collect_seldom()  # as the service does, and bare no less
        uvloop.run(target(url, folder, ready))


async def _bare(_url: str, _folder: str, ready: Connection) -> None:
    encoder, decoder = msgspec.json.Encoder(), msgspec.json.Decoder()
    said = encoder.encode({"id": str(uuid4()), "spec": dict.fromkeys(map(str, range(120)), "a value")})

    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=encoder.encode(decoder.decode(await request.read())))

    async def read(_request: web.Request) -> web.Response:
        return web.Response(body=said)

    application = web.Application()
    application.router.add_post("/v1/job", echo)
    application.router.add_get("/v1/job/{id}", read)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    listening = app.listening_socket("127.0.0.1", 0, shared=False)
    await web.SockSite(runner, listening).start()
    ready.send((address_of(listening), ""))
    await asyncio.Event().wait()


async def jobyard(url: str, folder: str, ready: Connection) -> None:
    settings = read_settings(
        {},
        state_dir=Path(folder),
        default_quota_cpu=1_000_000,
        default_quota_gpu=1_000_000,
        token_rate=1_000_000,  # one token asks all; that it may is checked as ever
    )
    async with Ledger.open(url, master_key(None, settings.master_key_file)) as ledger:
        token = await first_run.prepare(ledger, settings, None)
        listening = app.listening_socket("127.0.0.1", 0, shared=False)
        async with app.api(settings, ledger, listening, "unix:///run/not-asked.sock"):
            ready.send((address_of(listening), token))
            await asyncio.Event().wait()


def address_of(listening: socket.socket) -> str:
    return f"http://127.0.0.1:{listening.getsockname()[1]}"

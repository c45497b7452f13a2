"""How soon and how fast events come to 1,000 websocket clients, against an aiohttp server's bare broadcast.

Bare: `WebSocketResponse.send_str` to one client after the other, of text made before, as long as one of our
events. Ours: events are appended to the ledger by another process, durably, and come to the clients of
`GET /v1/events` by way of Postgres. A delay is measured from the time that stands in the event, which ours
is given under the lock of the ledger's head: the commit, the notice of it and its reading are in it. Bare's
time is when the event was due, so one that waits for those before it to be sent is late, as ours would be.
Both serve from one process with uvloop, and have the same clients.

A hundred a second to a thousand clients are more than bare gets through on a core that is shared: then it is
queues that are compared. So there is also a rate at which nobody has one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from statistics import median
from tempfile import TemporaryDirectory
from uuid import uuid4

import aiohttp
from aiohttp import web

from service import app
from service.domain import commands as cmd
from service.ledger.ledger import Ledger
from service.vault import MasterKey, new_key
from tests.bench import requests, yard
from tests.bench.crowd import Crowd, crowd
from tests.bench.measure import Figure, Measure, quick, summed_up

ROUNDS = 5
CLIENTS = 1000
A_SECOND, CALM = 100, 5
#: Events of a round at a steady rate, at a calm one, and of one as fast as they go.
STEADY, CALMLY, AT_ONCE = 300, 25, 300
_SIZE = 600
_LABELS = 50

Broadcast = Callable[[int, float | None], Awaitable[None]]


async def bench() -> AsyncGenerator[Measure | Figure, None]:
    steady, calmly, at_once = (50, 5, 50) if quick() else (STEADY, CALMLY, AT_ONCE)
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="jobyard-bench-"))
        url = await stack.enter_async_context(yard.database())
        server, _ = await stack.enter_async_context(requests.server(_bare, url, folder))
        service, token = await stack.enter_async_context(requests.server(requests.jobyard, url, folder))
        ledger = await stack.enter_async_context(Ledger.open(url, MasterKey(new_key())))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        bare = await stack.enter_async_context(crowd(server, "/events", "", CLIENTS))
        ours = await stack.enter_async_context(crowd(service, "/v1/events?after=now", token, CLIENTS))

        async def send(count: int, pause_s: float | None) -> None:
            path = f"{server}/broadcast?count={count}&pause={pause_s or 0}"
            async with session.post(path) as answer:
                answer.raise_for_status()

        append = _Appending(ledger)
        await append.begin()
        for count, per_s in ((steady, A_SECOND), (calmly, CALM)):
            delays = [
                (await _delay(bare, send, count, per_s), await _delay(ours, append, count, per_s))
                for _ in range(ROUNDS + 1)
            ][1:]
            pairs = [(limit[1], mine[1]) for limit, mine in delays]
            name = f"{CLIENTS:,} websockets, {per_s} events/s"
            yield summed_up(f"{name}: p99", "ms", pairs, target=2.0, at_most=True)
            yield Figure(f"{name}: median", "ms", median(mine[0] for _, mine in delays))
        rates = [
            (await _rate(bare, send, at_once), await _rate(ours, append, at_once)) for _ in range(ROUNDS + 1)
        ][1:]
    yield summed_up(f"{CLIENTS:,} websockets, as fast as they go", "frames", rates, target=0.6)


async def _delay(clients: Crowd, broadcast: Broadcast, count: int, per_s: int) -> tuple[float, float]:
    """Median and 99th percentile in ms."""
    await clients.expect(count)
    await broadcast(count, 1 / per_s)
    delays = (await clients.taken()).delays_ms
    return median(delays), delays[int(len(delays) * 0.99)]


async def _rate(clients: Crowd, broadcast: Broadcast, count: int) -> float:
    """Frames a second, to all clients together."""
    await clients.expect(count)
    await broadcast(count, None)
    return CLIENTS * count / (await clients.taken()).seconds


class _Appending:
    """Labels are set on one job: an event each."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._job = uuid4()
        self._made = 0

    async def __call__(self, count: int, pause_s: float | None) -> None:
        commands = []
        began = time.perf_counter()
        for index in range(count):
            self._made += 1
            command = cmd.SetLabel(
                project=yard.PROJECT, job=self._job, name=f"n{self._made % _LABELS}", value=str(self._made)
            )
            commands.append(asyncio.create_task(self._ledger.submit(command, actor="bench")))
            if pause_s is not None:
                await asyncio.sleep(max(0.0, began + (index + 1) * pause_s - time.perf_counter()))
        await asyncio.gather(*commands)

    async def begin(self) -> None:
        """The job."""
        await self._ledger.submit(
            cmd.SubmitJob(
                project=yard.PROJECT, job=self._job, spec=yard.specification(self._job), user="bench"
            ),
            actor="bench",
        )


async def _bare(_url: str, _folder: str, ready: Connection) -> None:
    """A websocket at `/events`; `POST /broadcast` sends `count` texts to all, `pause` seconds apart."""
    clients: list[web.WebSocketResponse] = []
    filling = "x" * _SIZE

    async def events(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        clients.append(socket)
        async for _ in socket:
            pass
        return socket

    async def broadcast(request: web.Request) -> web.Response:
        count, pause_s = int(request.query["count"]), float(request.query["pause"])
        began, began_at = time.perf_counter(), datetime.now(UTC)
        for index in range(count):
            due = began_at + timedelta(seconds=index * pause_s) if pause_s else datetime.now(UTC)
            said = f'{{"time":"{due.isoformat()}","data":"{filling}"}}'
            for client in clients:
                await client.send_str(said)
            if pause_s:
                await asyncio.sleep(max(0.0, began + (index + 1) * pause_s - time.perf_counter()))
        return web.Response()

    application = web.Application()
    application.router.add_get("/events", events)
    application.router.add_post("/broadcast", broadcast)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    listening = app.listening_socket("127.0.0.1", 0, shared=False)
    await web.SockSite(runner, listening).start()
    ready.send((requests.address_of(listening), ""))
    await asyncio.Event().wait()

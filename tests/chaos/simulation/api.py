"""The product's own API in a process that can be killed anywhere: everything below the socket.

Tokens, bounds, bodies, Idempotency-Keys, handlers and the words of errors are the product's. What is not
here: aiohttp's parser and router, and what it does with connections.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from aiohttp import web
from aiohttp.http import HttpVersion11, RawRequestMessage
from aiohttp.streams import StreamReader
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from service.api.auth import Tokens
from service.api.call import EDGE, SERVICE, endpoint
from service.api.edge import edge
from service.api.limits import Bounds, Limits
from service.api.routes import ROUTES
from service.api.shown import Shown
from service.config import Settings
from tests.chaos.simulation.ledger import SimLedger
from tests.chaos.simulation.process import Process

JOBS, JOB = "/v1/job", "/v1/job/{id}"
TOKEN = "jy_of-the-simulation"


@dataclass(frozen=True)
class Request:
    """`path` is a route's; `key` the Idempotency-Key; `id` names this one attempt."""

    method: str
    path: str
    key: str
    id: str
    body: bytes = b""
    job: str = ""


@dataclass(frozen=True)
class Answer:
    """`positions` are those of the events that the request's log line names."""

    status: int
    body: bytes
    positions: tuple[int, ...] = ()
    repeated: bool = False


#: Of the routes that clients use, made once: a seed has many processes.
HANDLERS = {
    (route.method, route.path): endpoint(route)
    for route in ROUTES
    if route.path == JOBS or route.path.startswith(JOB)
}


class Api:
    """One process of it. Whoever waits for an answer when it is killed loses the connection."""

    def __init__(self, ledger: SimLedger, process: Process, settings: Settings) -> None:
        loop = asyncio.get_running_loop()
        metrics = SimpleNamespace(events=SimpleNamespace(inc=_nothing), answered=_nothing)
        self._app = web.Application()
        service: Any = SimpleNamespace(
            parts=SimpleNamespace(ledger=ledger, settings=settings),
            tokens=Tokens(ledger),
            limits=Limits(Bounds(per_second=0, at_once=100, streams=1), loop.time),
            metrics=metrics,
            shown=Shown(),
        )
        self._app[SERVICE] = service
        self._process = process
        self.tasks: set[asyncio.Task[Answer]] = set()

    def send(self, request: Request) -> asyncio.Task[Answer]:
        task = asyncio.create_task(self._answered(request))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def _answered(self, sent: Request) -> Answer:
        await self._passing("receive")
        request = _request(self._app, sent)
        response: Any = await edge(request, HANDLERS[sent.method, sent.path])
        line = request[EDGE].line
        await self._passing("answer")
        positions = tuple(line.get("positions", ()))
        return Answer(response.status, response.body or b"", positions, line.get("repeated", False))

    async def _passing(self, about: str) -> None:
        if self._process.dead:  # killed in this very step: the connection is lost as it is cut
            await asyncio.get_running_loop().create_future()
        await self._process.gate(about)


def _nothing(*_: object, **__: object) -> None: ...


def _request(app: web.Application, sent: Request) -> web.Request:
    """As aiohttp would hand it on, without a connection behind it."""
    loop = asyncio.get_running_loop()
    headers = CIMultiDict(
        {
            "Authorization": f"Bearer {TOKEN}",
            "Idempotency-Key": sent.key,
            "X-Request-Id": sent.id,
            "Content-Type": "application/json",
            "Content-Length": str(len(sent.body)),
        }
    )
    path = sent.path.replace("{id}", sent.job)
    raw = tuple((name.encode(), value.encode()) for name, value in headers.items())
    message = RawRequestMessage(
        sent.method, path, HttpVersion11, CIMultiDictProxy(headers), raw,
        should_close=False, compression=None, upgrade=False, chunked=False, url=URL(path),
    )  # fmt: skip
    protocol: Any = SimpleNamespace(
        transport=None,
        ssl_context=None,
        sockname=None,
        peername=("192.0.2.1", 1),
        _reading_paused=False,
        pause_reading=_nothing,
        resume_reading=_nothing,
    )
    body = StreamReader(protocol, 2**16, loop=loop)
    body.feed_data(sent.body)
    body.feed_eof()
    nobody: Any = None
    request = web.Request(message, body, protocol, nobody, nobody, loop, client_max_size=2**20)
    route: Any = SimpleNamespace(resource=None)
    found = web.UrlMappingMatchInfo({"id": sent.job}, route)
    found.add_app(app)
    found.current_app = app
    request._match_info = found
    return request

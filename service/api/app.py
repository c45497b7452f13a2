"""The HTTP application: parts in, aiohttp application out. How it is served is `runner`'s to say."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from service.api import door, edge, errors
from service.api.auth import Tokens
from service.api.call import SERVICE, Service, endpoint
from service.api.checkpoints import Checkpoints
from service.api.events import asyncapi
from service.api.events.feed import Feed
from service.api.events.source import LedgerSource
from service.api.job_http import way_in
from service.api.limits import Bounds, Limits
from service.api.metrics import Metrics
from service.api.openapi import DOCUMENT, document
from service.api.ports import ApiParts
from service.api.readiness import Readiness
from service.api.routes import ROUTES
from service.api.sent import sent
from service.api.watch import Watch
from service.config import Settings

#: Open requests have so long to end when the service closes; followed logs end at once.
SHUTDOWN_S = 10.0
KEEP_ALIVE_S = 75.0


def make_app(parts: ApiParts) -> web.Application:
    """Every route of the table, behind the edge. Its watch and feed run as long as the application does."""
    app = web.Application(
        middlewares=[edge.edge, way_in.by_host], client_max_size=parts.settings.max_body_bytes
    )
    tokens = Tokens(parts.ledger)
    watch = Watch(parts.ledger, tokens)
    checkpoints = Checkpoints(parts.settings)
    metrics = Metrics()
    feed = Feed(LedgerSource(parts.ledger), lost=watch.stop)
    metrics.behind.set_function(lambda: feed.behind)
    limits = Limits(_bounds(parts.settings), time.monotonic)
    app[SERVICE] = Service(parts, tokens, watch, metrics, Readiness(parts), checkpoints, feed, limits)
    app[DOCUMENT] = document(ROUTES)
    app[asyncapi.DOCUMENT] = asyncapi.document(parts.settings.public_url)
    _add_routes(app)
    way_in.add(app)
    app.on_response_prepare.append(edge.dress)
    app.on_shutdown.append(_end_followers)
    app.cleanup_ctx.append(_watching)
    app.on_cleanup.append(_close_checkpoints)
    return app


def runner(app: web.Application, *, keep_alive_s: float = KEEP_ALIVE_S) -> web.AppRunner:
    """How the application is to be served: bounds on what one connection may send and hold.

    `keep_alive_s` also bounds the time that a request's head may take.
    """
    return door.Runner(
        app,
        most_connections=app[SERVICE].parts.settings.max_connections,
        shutdown_timeout_s=SHUTDOWN_S,
        access_log=None,
        keepalive_timeout=keep_alive_s,
        auto_decompress=False,
        max_line_size=errors.MOST_TARGET_BYTES,
        max_field_size=errors.MOST_HEADER_BYTES,
        max_headers=errors.MOST_HEADERS,
        lingering_time=2.0,
    )


def _bounds(settings: Settings) -> Bounds:
    return Bounds(settings.token_rate, settings.token_requests, settings.token_streams)


def _add_routes(app: web.Application) -> None:
    """In the order of the table; HEAD wherever there is GET, OPTIONS on every path."""
    methods: dict[str, list[str]] = {}
    for route in ROUTES:
        handler = endpoint(route, sent)
        app.router.add_route(route.method, route.path, handler)
        allowed = methods.setdefault(route.path, [])
        allowed.append(route.method)
        if route.method == "GET":
            app.router.add_route("HEAD", route.path, handler)
            allowed.append("HEAD")
    for path, allowed in methods.items():
        app.router.add_route("OPTIONS", path, _options([*allowed, "OPTIONS"]))


def _options(methods: list[str]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    allow = ", ".join(sorted(methods))

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=204, headers={"Allow": allow})

    return answer


async def _watching(app: web.Application) -> AsyncIterator[None]:
    watch, feed = app[SERVICE].watch, app[SERVICE].feed
    await watch.look()
    tasks = [asyncio.create_task(watch.run()), asyncio.create_task(feed.run())]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _close_checkpoints(app: web.Application) -> None:
    await app[SERVICE].checkpoints.close()


async def _end_followers(app: web.Application) -> None:
    app[SERVICE].watch.close()

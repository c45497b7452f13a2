"""Answers that are streamed: never held whole, and never made to look complete when they broke off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

import structlog
from aiohttp import web

from service.api.call import EDGE
from service.api.client import gone
from service.api.watch import Follower
from service.errors import Unavailable

#: A client that takes nothing for so long is gone.
WRITE_TIMEOUT_S = 60.0
#: How often it is looked whether the client is still there.
GONE_S = 1.0

_log = structlog.get_logger()
T = TypeVar("T")


async def while_wanted(request: web.Request, follower: Follower, work: Coroutine[Any, Any, T]) -> T | None:
    """What the work answers; or None, the work ended, when the client has left or the token may not go on.

    Why stands in the request's line, under `cut`.
    """
    working = asyncio.create_task(work)
    cut = asyncio.create_task(follower.cut.wait())
    try:
        while not working.done():
            await asyncio.wait({working, cut}, timeout=GONE_S, return_when=asyncio.FIRST_COMPLETED)
            if not working.done() and (gone(request) or cut.done()):
                request[EDGE].line["cut"] = follower.why or "client"
                return None
        return working.result()
    finally:
        working.cancel()
        cut.cancel()
        await asyncio.gather(working, cut, return_exceptions=True)


async def pump(request: web.Request, response: web.StreamResponse, chunks: AsyncIterator[bytes]) -> None:
    """Write chunks to a prepared response, no faster than the client takes them.

    The status has been sent: what goes wrong now can only be shown by cutting the connection.
    """
    edge = request[EDGE]
    sent = 0
    try:
        async for chunk in chunks:
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await response.write(chunk)
            sent += len(chunk)
    except (ConnectionError, TimeoutError):
        edge.line["cut"] = "client"
        cut_off(request)
    except Unavailable as error:
        _log.warning("stream broke off", request_id=edge.request_id, sent_bytes=sent, error=error.message)
        edge.line["cut"] = "source"
        cut_off(request)
    except Exception:  # noqa: BLE001 (the answer has begun: it can only be cut, and told in the log)
        _log.exception("stream broke off", request_id=edge.request_id, sent_bytes=sent)
        edge.line["cut"] = "service"
        cut_off(request)
    finally:
        edge.line["sent_bytes"] = edge.line.get("sent_bytes", 0) + sent


def cut_off(request: web.Request) -> None:
    """End the connection so that what was sent does not look whole."""
    if request.transport is not None:
        request.transport.abort()

"""A request handed on to a job, and its answer: streamed both ways, no faster than either side takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from service.api.call import EDGE
from service.api.job_http import headers
from service.api.job_http.target import Target, is_ours
from service.api.stream import pump
from service.api.watch import Follower
from service.errors import Unavailable

CONNECT_S = 5.0
IDLE_S = 3600.0
CHUNK_BYTES = 65536
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=IDLE_S)
#: What aiohttp's client would add of its own.
_NOT_ADDED = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


def session() -> aiohttp.ClientSession:
    """For requests to jobs: nothing is kept, unpacked or added on the way."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        timeout=_TIMEOUT,
    )


def passed_headers(request: web.Request, target: Target, prefix: str) -> CIMultiDict[str]:
    """The request's headers, as the job gets them."""
    return headers.to_job(
        request.headers,
        client=request.remote or "",
        scheme=request.scheme,
        host=request.host,
        prefix=prefix,
        keep_authorization=not is_ours(request, target),
    )


async def forward(
    http: aiohttp.ClientSession,
    request: web.Request,
    target: Target,
    path: str,
    prefix: str,
    follower: Follower,
) -> web.StreamResponse:
    """One request and its answer. Raises `Unavailable` when nothing answers at the port."""
    url = URL(f"http://{target.authority}{path}", encoded=True)
    body = _body(request) if request.body_exists else None
    try:
        reply = await http.request(
            request.method,
            url,
            headers=passed_headers(request, target, prefix),
            data=body,
            allow_redirects=False,
            skip_auto_headers=_NOT_ADDED,
        )
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise Unavailable(
            f"job {target.job.id} does not answer on port {target.port}: {type(error).__name__}"
        ) from error
    async with reply:
        return await _answer(request, reply, prefix, follower)


async def _body(request: web.Request) -> AsyncIterator[bytes]:
    async for chunk in request.content.iter_chunked(CHUNK_BYTES):
        yield chunk


async def _answer(
    request: web.Request, reply: aiohttp.ClientResponse, prefix: str, follower: Follower
) -> web.StreamResponse:
    response = web.StreamResponse(
        status=reply.status, reason=reply.reason, headers=headers.from_job(reply.headers, prefix=prefix)
    )
    await response.prepare(request)
    pumping = asyncio.create_task(pump(request, response, reply.content.iter_any()))
    cut = asyncio.create_task(follower.cut.wait())
    try:
        await asyncio.wait({pumping, cut}, return_when=asyncio.FIRST_COMPLETED)
        if not pumping.done() and request.transport is not None:
            request[EDGE].line["cut"] = follower.why
            request.transport.abort()  # an answer that is cut must not look whole
    finally:
        for task in (pumping, cut):
            task.cancel()
        await asyncio.gather(pumping, cut, return_exceptions=True)
    return response

"""A request handed on to a job, and its answer: streamed both ways, no faster than either side takes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from service.api.call import PROXIED
from service.api.fair import pieces
from service.api.job_http import headers
from service.api.job_http.target import Target
from service.api.job_http.weighing import JobSide
from service.api.stream import cut_off, pump, while_wanted
from service.api.watch import Follower
from service.errors import Unavailable
from service.outward.strangers import Connector

CONNECT_S = 5.0
IDLE_S = 3600.0
#: When more waits to be taken, nothing more is read. aiohttp also bounds by it into how many chunks a job may
#: have cut what waits (a sixteenth of it): each of them takes its time.
READ_BYTES = 16 * 1024
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=IDLE_S)
#: What aiohttp's client would add of its own.
_NOT_ADDED = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class Redirected(aiohttp.ClientError):
    """A job named another place, where nothing of ours may be sent: it could be anybody's."""


def session() -> aiohttp.ClientSession:
    """For requests to jobs: nothing is kept, unpacked or added on the way, and no redirect is followed.

    A websocket's handshake cannot be told so by an argument. Raises `Redirected`.
    """
    nowhere_else = aiohttp.TraceConfig()
    nowhere_else.on_request_redirect.append(_redirected)
    return aiohttp.ClientSession(
        connector=Connector(limit=0, force_close=True),
        trace_configs=[nowhere_else],
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        timeout=_TIMEOUT,
        read_bufsize=READ_BYTES,
        ws_response_class=JobSide,
    )


async def _redirected(_session: Any, _context: Any, asked: aiohttp.TraceRequestRedirectParams) -> None:
    asked.response.close()
    raise Redirected(f"it answered {asked.response.status}")


def passed_headers(request: web.Request, target: Target, prefix: str) -> CIMultiDict[str]:
    """The request's headers, as the job gets them."""
    return headers.to_job(
        request.headers,
        client=request.remote or "",
        scheme=request.scheme,
        host=request.host,
        prefix=prefix,
        keep_authorization=not target.ours,
    )


async def forward(
    http: aiohttp.ClientSession,
    request: web.Request,
    target: Target,
    path: str,
    prefix: str,
    follower: Follower,
) -> web.StreamResponse:
    """One request and its answer. Raises `Unavailable` when nothing sensible answers at the port."""
    exchange = _Exchange(http, request, target, prefix)
    answer = await while_wanted(request, follower, exchange.run(path))
    if answer is not None:
        return answer
    if exchange.begun is not None:
        cut_off(request)  # an answer that is cut must not look whole
        return exchange.begun
    raise Unavailable(f"the request to job {target.job.id} was ended: {follower.why or 'the client left'}")


class _Exchange:
    """A request on its way to a job. `begun`: the answer, once its head may have been sent."""

    def __init__(
        self, http: aiohttp.ClientSession, request: web.Request, target: Target, prefix: str
    ) -> None:
        self._http = http
        self._request = request
        self._target = target
        self._prefix = prefix
        self.begun: web.StreamResponse | None = None

    async def run(self, path: str) -> web.StreamResponse:
        """Hand it on, and its answer back."""
        async with await self._asked(path) as reply:
            if reply.status < 200:  # 101: a switch of protocols that nobody asked for
                raise self._unavailable(f"it answered {reply.status}")
            return await self._answered(reply)

    async def _asked(self, path: str) -> aiohttp.ClientResponse:
        request, target = self._request, self._target
        try:
            return await self._http.request(
                request.method,
                URL(f"http://{target.authority}{path}", encoded=True),
                headers=passed_headers(request, target, self._prefix),
                data=pieces(request.content) if request.body_exists else None,
                allow_redirects=False,
                skip_auto_headers=_NOT_ADDED,
            )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._unavailable(type(error).__name__) from error

    def _unavailable(self, why: str) -> Unavailable:
        target = self._target
        return Unavailable(f"job {target.job.id} does not answer on port {target.port}: {why}")

    async def _answered(self, reply: aiohttp.ClientResponse) -> web.StreamResponse:
        said = headers.from_job(reply.headers, prefix=self._prefix)
        reason = headers.sendable(reply.reason or "")
        response = web.StreamResponse(status=reply.status, reason=reason, headers=said)
        self._request[PROXIED] = frozenset(name.lower() for name in said)
        self.begun = response
        await response.prepare(self._request)
        await pump(self._request, response, self._said(reply))
        return response

    async def _said(self, reply: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        try:
            async for piece in pieces(reply.content):
                yield piece
        except aiohttp.ClientError as error:
            raise self._unavailable(type(error).__name__) from error

"""The outermost layer: request ids, errors, security headers, the canonical log line, metrics."""

from __future__ import annotations

import re
import secrets
import time
from typing import Any

import structlog
from aiohttp import web
from multidict import CIMultiDict, istr

from service.api import errors
from service.api.call import EDGE, PROXIED, SERVICE, Edge
from service.api.client import gone

REQUEST_ID = istr("X-Request-Id")

#: For the log and the metrics: the client left before its answer began. There is no such status in HTTP.
LEFT = 499

_REQUEST_ID = re.compile(r"\A[A-Za-z0-9._:-]{1,64}\Z")
_HEADERS = CIMultiDict(
    {
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Server": "jobyard",
    }
)
_DEFAULTS = (
    (istr("Content-Security-Policy"), "default-src 'none'; frame-ancestors 'none'"),
    (istr("Cache-Control"), "no-store"),
)
#: What aiohttp says of its own where an answer does not.
_OF_THE_SERVER = ("Server", "Content-Type")
#: Asked every few seconds by those who watch over the service.
_QUIET = frozenset({"/healthz", "/readyz", "/metrics"})

_log = structlog.get_logger()


@web.middleware
async def edge(request: web.Request, handler: Any) -> web.StreamResponse:
    """Every request, known route or not, ends here, whatever happens to it."""
    started = time.perf_counter()
    given = request.headers.get(REQUEST_ID, "")
    request_id = given if _REQUEST_ID.match(given) else new_id()
    line: dict[str, Any] = {}
    request[EDGE] = Edge(request_id, line)
    try:
        response: web.StreamResponse = await handler(request)
    except Exception as error:  # noqa: BLE001 (whatever it is, the client is answered)
        left = isinstance(error, ConnectionResetError) and gone(request)
        # The answer could not be sent: nobody is there to take this one either. (aiohttp has an error of its
        # own for it, of this kind; who leaves before a websocket is open is told of by the plain one.)
        response = web.Response(status=LEFT) if left else errors.answer(error, request_id)
        if left:
            line["cut"] = "client"
        elif response.status == 500:
            _log.exception("request failed", request_id=request_id)
        else:
            line["error"] = getattr(error, "code", None) or type(error).__name__
    _account(request, response, line, started)
    return response


def _account(
    request: web.Request, response: web.StreamResponse, line: dict[str, Any], started: float
) -> None:
    """The metrics, and one line that tells all of the request. Paths are left out: they may hold anything."""
    seconds = time.perf_counter() - started
    resource = request.match_info.route.resource
    route = "unknown" if resource is None else resource.canonical
    method = request.method if len(request.method) <= 7 else "OTHER"
    timed = not ("streamed" in line or (request.rel_url.raw_query_string and "follow" in request.query))
    request.app[SERVICE].metrics.answered(method, route, response.status, seconds if timed else None)
    if route in _QUIET and response.status < 400:
        return
    _log.info(
        "request",
        method=method,
        route=line.pop("route", route),
        status=response.status,
        ms=round(seconds * 1000, 2),
        request_id=request[EDGE].request_id,
        **line,
    )


async def dress(request: web.Request, response: web.StreamResponse) -> None:
    """The headers of every answer, streams included."""
    found = request.get(EDGE)
    said = request.get(PROXIED)
    if said is not None:
        for name in _OF_THE_SERVER:
            if name.lower() not in said:
                response.headers.popall(name, None)
        if found is not None:
            response.headers[REQUEST_ID] = found.request_id
        return
    protect(response, None if found is None else found.request_id)


def protect(response: web.StreamResponse, request_id: str | None) -> None:
    """Give an answer the headers that all have; none tells what it was made with."""
    headers = response.headers
    for name, value in _DEFAULTS:
        headers.setdefault(name, value)
    # A dictionary of the names' own kind is taken in without a look at each name.
    headers.update(_HEADERS)
    if request_id is not None:
        headers[REQUEST_ID] = request_id


def new_id() -> str:
    """An id for a request that brought none."""
    return secrets.token_hex(12)

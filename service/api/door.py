"""Where connections come in: what is no HTTP, and what no route has seen, is answered as every other error.

aiohttp answers these in plain text, under its own name and version, and logs a traceback for each. Here the
parser's errors become the one shape of `errors`, with one canonical log line. A client that sends half a
head is bounded by the keep-alive timeout, which aiohttp counts from the connection's start and from the end
of each answer.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from aiohttp import StreamReader, web
from aiohttp.http import HttpVersion10, HttpVersion11, RawRequestMessage
from aiohttp.http_exceptions import BadStatusLine, HttpProcessingError
from yarl import URL

from service.api import edge, errors
from service.api.call import SERVICE
from service.api.metrics import Metrics
from service.errors import Unavailable
from service.paced import rest

#: The label of what never came to a route.
ROUTE = "broken"

#: A client that takes nothing of what waits for it for so long is gone; its kernel may well answer.
TAKES_NOTHING_S = 90.0

#: Marks a request without a target, or of a version that is not served.
_UNFIT: web.RequestKey[bool] = web.RequestKey("unfit", bool)
_NOWHERE = URL("/")
_VERSIONS = (HttpVersion10, HttpVersion11)

_Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_log = structlog.get_logger()


class Door(web.RequestHandler):
    """One connection."""

    __slots__ = ("_body", "_metrics", "_server")

    def __init__(self, manager: _Server, metrics: Metrics, **bounds: Any) -> None:
        super().__init__(manager, **bounds)
        self._metrics = metrics
        self._server = manager
        self._body: StreamReader | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """One more connection, or one too many: that is told so at once, and heard no more."""
        super().connection_made(transport)
        if len(self._server.connections) > self._server.most_connections:
            self._turn_away()
            return
        made: socket.socket | None = transport.get_extra_info("socket")
        if made is not None and made.family in (socket.AF_INET, socket.AF_INET6):
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(TAKES_NOTHING_S * 1000))

    def _turn_away(self) -> None:
        """Without a request there is no response to be made: these are its bytes."""
        error = Unavailable(f"the service has {self._server.most_connections} connections open already")
        request_id = edge.new_id()
        response = errors.answer(error, request_id)
        edge.protect(response, request_id)
        response.force_close()
        response.headers["Connection"] = "close"
        response.headers["Content-Length"] = str(response.content_length or 0)
        head = "".join(f"{name}: {value}\r\n" for name, value in response.headers.items())
        if self.transport is not None:
            body = response.body
            assert isinstance(body, bytes)  # noqa: S101 (errors are short)
            self.transport.write(f"HTTP/1.1 503 Service Unavailable\r\n{head}\r\n".encode() + body)
        self._metrics.turned_away.inc()
        _log.warning("connection turned away", request_id=request_id)
        self.force_close()

    async def through(self, request: web.BaseRequest, handler: _Handler) -> web.StreamResponse:
        """One request's answer. What the edge never saw, such as a bad `Expect`, gets its shape here."""
        self._body = request.content
        try:
            return await handler(request)
        except Exception as error:  # noqa: BLE001 (whatever it is, the client is answered)
            return self._refused(error)
        finally:
            self._body = None

    def data_received(self, data: bytes) -> None:
        """A body that is broken in the middle ends at once: its reader would wait for the rest for ever.

        What comes for a request that is being answered is heard also while the service closes, or the rest of
        its body, and a websocket's agreement to be closed, would be waited for in vain: aiohttp drops both.

        Whoever sends without pause is read once a turn of the loop.
        """
        closing = self._close, self._force_close
        if any(closing) and self._current_request is not None and self.transport is not None:
            self._close = self._force_close = False
            super().data_received(data)
            self._close, self._force_close = self._close or closing[0], self._force_close or closing[1]
        else:
            super().data_received(data)
        rest(self, data)
        body = self._body
        if body is not None and self._messages and not body.is_eof() and body.exception() is None:
            # Something comes after a body that is not complete: the parser has given it up.
            body.set_exception(web.RequestPayloadError("the transfer is broken"))

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What the parser could not read; the connection ends with the answer."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was begun already")
        return self._refused(exc or web.HTTPBadRequest())

    def _refused(self, error: BaseException) -> web.StreamResponse:
        request_id = edge.new_id()
        response = errors.answer(error, request_id)
        edge.protect(response, request_id)
        response.force_close()
        self._metrics.requests.labels("OTHER", ROUTE, response.status).inc()
        if response.status == 500:
            _log.error("request failed", request_id=request_id, exc_info=error)
        else:
            _log.info(
                "request", route=ROUTE, status=response.status, request_id=request_id, error=_kind(error)
            )
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """What aiohttp would log: a traceback only where the fault is ours."""
        error = kw.get("exc_info")
        if isinstance(error, HttpProcessingError | web.RequestPayloadError | ConnectionError):
            _log.debug("connection ended early", error=_kind(error))
        else:
            _log.error("connection failed", what=str(args[0]) if args else "", exc_info=error)


def _kind(error: BaseException) -> str:
    return type(error).__name__


class _Server(web.Server):
    """Makes a `Door` for each connection."""

    def __init__(
        self, made: web.Server, metrics: Metrics, most_connections: int, bounds: dict[str, Any]
    ) -> None:
        super().__init__(self._through, request_factory=self._request)
        self._made = made
        self._metrics = metrics
        self._bounds = bounds
        self.most_connections = most_connections

    def _request(self, message: RawRequestMessage, *parts: Any) -> web.BaseRequest:
        """As the application makes it. Some of what the parser lets pass cannot be made a request of."""
        if message.url is not None and message.version in _VERSIONS:
            return self._made.request_factory(message, *parts)
        harmless = message._replace(url=_NOWHERE, path=_NOWHERE.path, version=HttpVersion10)
        request = self._made.request_factory(harmless, *parts)
        request[_UNFIT] = True
        return request

    async def _through(self, request: web.BaseRequest) -> web.StreamResponse:
        door = request.protocol
        assert isinstance(door, Door)  # noqa: S101 (no other is made)
        if _UNFIT in request:
            return door.handle_error(request, exc=BadStatusLine())
        return await door.through(request, self._made.request_handler)

    def __call__(self) -> Door:
        return Door(self, self._metrics, loop=self._loop, **self._bounds)


class Runner(web.AppRunner):
    """Serves an application through `Door`s. `bounds` are those of aiohttp's `RequestHandler`."""

    def __init__(
        self, app: web.Application, *, most_connections: int, shutdown_timeout_s: float, **bounds: Any
    ) -> None:
        super().__init__(app, shutdown_timeout=shutdown_timeout_s)
        self._most_connections = most_connections
        self._bounds = bounds

    async def _make_server(self) -> web.Server:
        """The hook that aiohttp's runners differ in."""
        metrics = self.app[SERVICE].metrics
        return _Server(await super()._make_server(), metrics, self._most_connections, self._bounds)

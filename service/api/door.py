"""Where connections come in: what is no HTTP, and what no route has seen, is answered as every other error.

aiohttp answers these in plain text, under its own name and version, and logs a traceback for each. Here the
parser's errors become the one shape of `errors`, with one canonical log line. A client that sends half a
head is bounded by the keep-alive timeout, which aiohttp counts from the connection's start and from the end
of each answer.
"""

from __future__ import annotations

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

#: The label of what never came to a route.
ROUTE = "broken"

#: Marks a request without a target, or of a version that is not served.
_UNFIT: web.RequestKey[bool] = web.RequestKey("unfit", bool)
_NOWHERE = URL("/")
_VERSIONS = (HttpVersion10, HttpVersion11)

_Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_log = structlog.get_logger()


class Door(web.RequestHandler):
    """One connection."""

    __slots__ = ("_body", "_metrics")

    def __init__(self, manager: web.Server, metrics: Metrics, **bounds: Any) -> None:
        super().__init__(manager, **bounds)
        self._metrics = metrics
        self._body: StreamReader | None = None

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
        """A body that is broken in the middle ends at once: its reader would wait for the rest for ever."""
        super().data_received(data)
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

    def __init__(self, made: web.Server, metrics: Metrics, bounds: dict[str, Any]) -> None:
        super().__init__(self._through, request_factory=self._request)
        self._made = made
        self._metrics = metrics
        self._bounds = bounds

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

    def __init__(self, app: web.Application, *, shutdown_timeout_s: float, **bounds: Any) -> None:
        super().__init__(app, shutdown_timeout=shutdown_timeout_s)
        self._bounds = bounds

    async def _make_server(self) -> web.Server:
        """The hook that aiohttp's runners differ in."""
        return _Server(await super()._make_server(), self.app[SERVICE].metrics, self._bounds)

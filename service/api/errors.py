"""The one place where the tree of `service.errors` becomes HTTP: statuses, bodies, headers.

Every error is `{"message", "code", "field"?, "requestId"}`. What a client sent never ends as a 500; a 500
says nothing but the request id, under which the log has the rest.
"""

from __future__ import annotations

from http import HTTPStatus

import msgspec
from aiohttp import web

from service import errors

RETRY_AFTER_S = 1

#: The first that fits counts; what fits none is our own fault.
_STATUSES: tuple[tuple[type[errors.JobyardError], int], ...] = (
    (errors.TooLarge, 413),
    (errors.Unauthenticated, 401),
    (errors.Forbidden, 403),
    (errors.NotFound, 404),
    (errors.Conflict, 409),
    (errors.StaleEpoch, 409),
    (errors.Rejected, 400),
    (errors.StoreRefused, 400),
    (errors.UnsafeKey, 400),
    (errors.Unavailable, 503),
    (errors.DataError, 502),
)


class ErrorBody(msgspec.Struct, frozen=True, rename="camel", kw_only=True, omit_defaults=True):
    """What every refusal answers. `field` is the dotted path of what was wrong; `code` is stable."""

    message: str
    code: str
    request_id: str
    field: str | None = None


_encode = msgspec.json.Encoder().encode


def status_of(error: errors.JobyardError) -> int:
    """The HTTP status of an error of the tree; 500 for those that no client can cause."""
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)


def answer(error: BaseException, request_id: str) -> web.Response:
    """Any exception as a response."""
    match error:
        case web.HTTPException():
            return _http(error, request_id)
        case errors.JobyardError() if (status := status_of(error)) != 500:
            return _refusal(error, status, request_id)
        case _:
            message = f"The service failed; its log tells more under request {request_id}."
            return _response(500, ErrorBody(message=message, code="internal", request_id=request_id))


def _refusal(error: errors.JobyardError, status: int, request_id: str) -> web.Response:
    field = error.field if isinstance(error, errors.Invalid) else None
    body = ErrorBody(message=error.message, code=error.code, field=field, request_id=request_id)
    response = _response(status, body)
    if status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="jobyard"'
    if status == 503:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response


def _http(error: web.HTTPException, request_id: str) -> web.Response:
    """aiohttp's own refusals, such as an unknown route or a wrong method."""
    phrase = HTTPStatus(error.status).phrase
    message = error.text if error.text and not error.text.startswith(f"{error.status}:") else f"{phrase}."
    code = phrase.lower().replace(" ", "-")
    response = _response(error.status, ErrorBody(message=message, code=code, request_id=request_id))
    if isinstance(error, web.HTTPMethodNotAllowed):
        response.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
    return response


def _response(status: int, body: ErrorBody) -> web.Response:
    return web.Response(status=status, body=_encode(body), content_type="application/json")

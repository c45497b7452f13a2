"""The one place where the tree of `service.errors` becomes HTTP: statuses, bodies, headers.

Every error is `{"message", "code", "field"?, "requestId"}`. What a client sent never ends as a 500; a 500
says nothing but the request id, under which the log has the rest. `service/api/door.py` brings what could
not even be read.
"""

from __future__ import annotations

from http import HTTPStatus

import msgspec
from aiohttp import http_exceptions as broken
from aiohttp import web

from service import errors

RETRY_AFTER_S = 1

#: The most that the head of a request may hold: its target, one header with its name, and headers in all.
#: The first two differ so that the parser's error tells which it was.
MOST_TARGET_BYTES = 8190
MOST_HEADER_BYTES = 8191
MOST_HEADERS = 64

#: The first that fits counts; what fits none is our own fault.
_STATUSES: tuple[tuple[type[errors.JobyardError], int], ...] = (
    (errors.TooLarge, 413),
    (errors.TooMany, 429),
    (errors.Unauthenticated, 401),
    (errors.BudgetExceeded, 402),
    (errors.Forbidden, 403),
    (errors.NotFound, 404),
    (errors.Conflict, 409),
    (errors.Erased, 409),
    (errors.StaleEpoch, 409),
    (errors.Rejected, 400),
    (errors.StoreMissing, 404),
    (errors.StoreDenied, 403),
    (errors.StoreRefused, 400),
    (errors.UnsafeKey, 400),
    (errors.Unavailable, 503),
    (errors.DataError, 502),
)


#: Why aiohttp's parser gave a request up. Its own words may repeat what was sent; these never do.
_BROKEN: tuple[tuple[type[broken.HttpProcessingError], str], ...] = (
    (broken.BadHttpMethod, "it does not begin with an HTTP method (TLS, or no HTTP at all)"),
    (broken.BadStatusLine, "its first line must be METHOD /path HTTP/1.1"),
    (broken.InvalidURLError, "the path in its first line is none"),
    (broken.InvalidHeader, "a header holds what no header may"),
)
#: In the words of aiohttp, which has no class for it.
_TOO_MANY_HEADERS = "Too many headers"


class Said:
    """What an `Invalid` was given, in words of ours: where the value is long, secret, or none at all."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


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
        case broken.HttpProcessingError():
            return _broken(error, request_id)
        case errors.JobyardError() if (status := status_of(error)) != 500:
            return _refusal(error, status, request_id)
        case _:
            message = f"The service failed; its log tells more under request {request_id}."
            return _response(500, ErrorBody(message=message, code="internal", request_id=request_id))


def _refusal(error: errors.JobyardError, status: int, request_id: str) -> web.Response:
    field = error.field if isinstance(error, errors.Invalid) else None
    body = ErrorBody(message=_message(error), code=error.code, field=field, request_id=request_id)
    response = _response(status, body)
    if status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="jobyard"'
    if isinstance(error, errors.TooMany):
        response.headers["Retry-After"] = str(error.retry_after_s)
    if status == 503:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response


def _message(error: errors.JobyardError) -> str:
    """The error's own, unless there is no value to be quoted."""
    match error:
        case errors.Invalid(given=None):
            return f"{error.field}: it is missing; {error.allowed}"
        case errors.Invalid(given=Said() as said):
            return f"{error.field}: {said}; {error.allowed}"
        case _:
            return error.message


def _broken(error: broken.HttpProcessingError, request_id: str) -> web.Response:
    """What aiohttp's parser could not read."""
    status, code, message = 400, "bad-request", f"The request cannot be read: {_why(error)}."
    if isinstance(error, broken.LineTooLong):
        target = error.args[1] == MOST_TARGET_BYTES
        status, code = (414, "target-too-long") if target else (431, "headers-too-large")
        what = "target" if target else "header"
        message = f"A {what} of more than {error.args[1]} bytes is not taken."
    elif error.message.startswith(_TOO_MANY_HEADERS):
        status, code = 431, "headers-too-large"
        message = f"More than {MOST_HEADERS} headers are not taken."
    return _response(status, ErrorBody(message=message, code=code, request_id=request_id))


def _why(error: broken.HttpProcessingError) -> str:
    for kind, words in _BROKEN:
        if isinstance(error, kind):
            return words
    return error.message.partition("\n")[0].rstrip(":.")


def _http(error: web.HTTPException, request_id: str) -> web.Response:
    """aiohttp's own refusals, such as an unknown route or a wrong method."""
    phrase = HTTPStatus(error.status).phrase
    match error:
        case web.HTTPNotFound():
            message = "There is nothing at this path; /docs lists what there is."
        case web.HTTPMethodNotAllowed():
            message = f"The methods of this path are {_methods(error)}."
        case web.HTTPExpectationFailed():
            message = "Expect: only 100-continue can be expected."
        case _:
            plain = error.text and not error.text.startswith(f"{error.status}:")
            message = error.text if plain and error.text else f"{phrase}."
    code = phrase.lower().replace(" ", "-")
    response = _response(error.status, ErrorBody(message=message, code=code, request_id=request_id))
    if isinstance(error, web.HTTPMethodNotAllowed):
        response.headers["Allow"] = _methods(error)
    return response


def _methods(error: web.HTTPMethodNotAllowed) -> str:
    return ", ".join(sorted(error.allowed_methods))


def _response(status: int, body: ErrorBody) -> web.Response:
    return web.Response(status=status, body=_encode(body), content_type="application/json")

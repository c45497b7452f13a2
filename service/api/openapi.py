"""The OpenAPI 3.1 document, made of the table of routes and of the types that are decoded and encoded."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import metadata
from typing import Any, get_args

import msgspec
from aiohttp import web

from service.api import hints, idempotency, past, wire
from service.api.call import JSON, Call, Route
from service.api.errors import ErrorBody
from service.api.handshake import EVENT_STREAM
from service.api.scope import Level

DOCUMENT: web.AppKey[bytes] = web.AppKey("openapi", bytes)

_REF = "#/components/schemas/{name}"
_PARAMETER = re.compile(r"\{(\w+)(?::[^}]*)?\}")
_ROLES = {
    Level.READ: "Any role.",
    Level.OPERATE: "Roles administrator and ai_training_operator.",
    Level.PROVIDE: "Roles administrator and ai_training_operator, without a label selector.",
    Level.ADMINISTER: "Role administrator.",
    Level.WHOLE: "Role administrator, without a label selector.",
    Level.OVERSEE: "Administrators of the project `default`, without a label selector.",
}
#: Whose handler wants more than their level.
_NARROWER = {"/v1/budget": "Any role, without a label selector."}
#: What is streamed to a client that asks for it by its `Accept`; as a websocket: see /v1/asyncapi.json.
_STREAMED = {"/v1/events": EVENT_STREAM}
_REFUSALS = {
    400: "A value is wrong; `field` names it.",
    401: "No token, or one that is unknown or revoked.",
    402: "The project has used up its budget of the month.",
    403: "The role, the label selector or the quota does not allow it.",
    404: "No such thing in this project.",
    408: "The body did not arrive in time.",
    409: "It exists already, or the Idempotency-Key was used for another request.",
    413: "The body is too large.",
    414: "The target is too long.",
    415: "The body is compressed: none is taken that is.",
    429: "This token asks too much of this process.",
    503: "Postgres or the store did not answer; try again.",
}


#: The header of an answer that is of a moment of the past.
_AS_OF = {
    "description": "With asOf: the position that the answer is of.",
    "schema": {"type": "integer", "minimum": 0},
}


#: The header of a refusal that is over by itself.
_RETRY_AFTER = {
    "Retry-After": {
        "description": "Seconds after which to try again.",
        "schema": {"type": "integer", "minimum": 1},
    }
}
_PASSING = (429, 503)


async def openapi(call: Call) -> web.Response:
    return web.Response(body=call.request.app[DOCUMENT], content_type=JSON)


def document(routes: Iterable[Route]) -> bytes:
    """The whole document as JSON."""
    table = list(routes)
    ids = {_PARAMETER.sub(r"{\1}", route.path) + " " + route.method: _operation_id(route) for route in table}
    kinds = [ErrorBody, *(kind for route in table for kind in _kinds(route))]
    _, schemas = msgspec.json.schema_components(list(dict.fromkeys(kinds)), ref_template=_REF)
    hints.add(schemas)
    paths: dict[str, dict[str, Any]] = {}
    for route in table:
        paths.setdefault(_PARAMETER.sub(r"{\1}", route.path), {})[route.method.lower()] = _operation(
            route, ids
        )
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Jobyard",
                "version": version(),
                "description": "Runs AI-training jobs. Errors are {message, code, field?, requestId}.",
            },
            "servers": [{"url": "/"}],
            "security": [{"token": []}],
            "paths": paths,
            "components": {
                "schemas": schemas,
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            },
        }
    )


def _operation(route: Route, ids: dict[str, str]) -> dict[str, Any]:
    success = _success(route)
    if links := _links(route, ids):
        success["200"]["links"] = links
    if route.query is not None and "as_of" in route.query.__struct_fields__:
        success["200"]["headers"] = {past.HEADER: _AS_OF}
    found: dict[str, Any] = {
        "operationId": _operation_id(route),
        "tags": [_tag(route.path)],
        "summary": route.summary,
        "description": _NARROWER.get(route.path) or _ROLES.get(route.level, "Needs no token."),
        "parameters": [*_path_parameters(route), *_query_parameters(route), *_header_parameters(route)],
        "responses": {**success, **{str(status): _refusal(status, route) for status in _refusals(route)}},
    }
    if route.level is Level.PUBLIC:
        found["security"] = []
    if route.takes:
        found["requestBody"] = {"required": True, "content": {JSON: {"schema": _ref(route.takes)}}}
    elif _is_upload(route):
        content = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
        found["requestBody"] = {"required": True, "content": content}
    return found


def _is_upload(route: Route) -> bool:
    """Whether its body is no JSON, but an object as it is."""
    return route.handler.__name__ == "upload"


def _operation_id(route: Route) -> str:
    """The handler's module and name."""
    return f"{route.handler.__module__.rpartition('.')[2]}_{route.handler.__name__}"


#: What is made, where it is then, by which name in the path, and where the answer says it.
_MADE: dict[str, tuple[str, str, str]] = {
    "/v1/job": ("/v1/job/{id}", "id", "$response.body#/id"),
    "/v1/token": ("/v1/token/{id}", "id", "$response.body#/id"),
    "/v1/registry": ("/v1/registry/{id}", "id", "$response.body#/id"),
    "/v1/volume": ("/v1/volume/{id}", "id", "$response.body#/id"),
    "/v1/webhook": ("/v1/webhook/{id}", "id", "$response.body#/id"),
    "/v1/datastore": ("/v1/datastore/{alias}", "alias", "$response.body#/alias"),
    "/v1/project": ("/v1/project/{id}", "id", "$response.body#/project/id"),
}


def _links(route: Route, ids: dict[str, str]) -> dict[str, Any]:
    """From what makes a thing to what can be done with it."""
    if route.method != "POST" or route.path not in _MADE:
        return {}
    where, name, pointer = _MADE[route.path]
    of_it = [operation for place, operation in ids.items() if place.partition(" ")[0].startswith(where)]
    return {each: {"operationId": each, "parameters": {name: pointer}} for each in of_it}


def _tag(path: str) -> str:
    parts = path.split("/")
    return parts[2].partition(".")[0] if parts[1] == "v1" else "service"


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(route.path)
    ]


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    if route.query is None:
        return []
    (_,), components = msgspec.json.schema_components([route.query], ref_template=_REF)
    asked = components[route.query.__name__]
    text = (route.query.__doc__ or "").strip()
    return [
        {"name": name, "in": "query", "description": text, "schema": _inlined(schema, components)}
        | ({"required": True} if name in asked.get("required", ()) else {})
        for name, schema in asked["properties"].items()
    ]


def _inlined(schema: Any, components: dict[str, Any]) -> Any:
    """The schema with what it refers to in its place: parameters are small."""
    if isinstance(schema, dict):
        name = str(schema.get("$ref", "")).rpartition("/")[2]
        if name in components:
            return _inlined(components[name], components)
        return {key: _inlined(value, components) for key, value in schema.items()}
    return [_inlined(each, components) for each in schema] if isinstance(schema, list) else schema


#: They do something, each time they are asked, and record nothing.
_ASKED_ANEW = frozenset({"/v1/webhook/{id}/test"})


def _changes_something(route: Route) -> bool:
    """Whether a POST may carry an Idempotency-Key: one that every role may send only answers."""
    return route.method == "POST" and route.level > Level.READ and route.path not in _ASKED_ANEW


def _header_parameters(route: Route) -> list[dict[str, Any]]:
    if not _changes_something(route):
        return []
    schema = {"type": "string", "minLength": 1, "maxLength": idempotency.MOST_CHARS}
    text = (
        "A repeat under the same key does nothing again. It is answered as the first request was, or, of a "
        "webhook, a price list or a renewed token, with what there is by then."
    )
    return [{"name": idempotency.HEADER, "in": "header", "description": text, "schema": schema}]


def _success(route: Route) -> dict[str, Any]:
    if route.path == "/":
        home = {"description": "For programs.", "content": {JSON: {"schema": _ref(route.answers)}}}
        return {"200": home, "302": {"description": "For people: to the pages."}}
    if route.answers:
        content = {JSON: {"schema": _ref(route.answers)}}
        if route.path in _STREAMED:
            content[_STREAMED[route.path]] = {"schema": {"type": "string"}}
        return {"200": {"description": "Done.", "content": content}}
    if route.media != JSON:
        content = {each: {"schema": {"type": "string"}} for each in route.media.split(", ")}
        return {"200": {"description": "Done.", "content": content}}
    if route.path.endswith("api.json"):
        return {"200": {"description": "Done.", "content": {JSON: {"schema": {"type": "object"}}}}}
    return {"204": {"description": "Done."}}


def _refusals(route: Route) -> list[int]:
    found = {503}
    if route.level is not Level.PUBLIC:
        found |= {401, 403, 429}
    if (route.path == "/v1/job" and route.takes) or route.path.endswith("/start"):
        found.add(402)
    if route.takes or route.query or route.method in ("PUT", "DELETE") or "{container}" in route.path:
        found.add(400)
    if route.method in ("PUT", "DELETE"):
        found.add(409)
    if "{" in route.path or route.query:
        found |= {404, 414}
    if route.takes and {"project", "job"} & set(route.takes.__struct_fields__):
        found.add(404)  # the body names what may not be there
    if _changes_something(route) or route.path in _ASKED_ANEW:
        found |= {400, 409}
    if route.takes:
        found |= {408, 409, 413, 415}
    if _is_upload(route):
        found.add(415)
    return sorted(found)


def _refusal(status: int, route: Route) -> dict[str, Any]:
    # What is not ready answers the same as what is, and with it an error's fields.
    kind = wire.Ready if route.answers is wire.Ready else ErrorBody
    found = {"description": _REFUSALS[status], "content": {JSON: {"schema": _ref(kind)}}}
    return found | {"headers": _RETRY_AFTER} if status in _PASSING else found


def _kinds(route: Route) -> list[type]:
    """The types whose schemas the route needs."""
    return [*filter(None, (route.takes, *(get_args(route.answers) or (route.answers,))))]


def _ref(kind: Any) -> dict[str, Any]:
    if items := get_args(kind):
        return {"type": "array", "items": _ref(items[0])}
    return {"$ref": _REF.format(name=kind.__name__)}


def version() -> str:
    """The version of this service; 0 where it was not installed."""
    try:
        return metadata.version("jobyard")
    except metadata.PackageNotFoundError:
        return "0"

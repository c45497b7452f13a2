"""The AsyncAPI 3.0 document of the event stream, made of the types that are encoded and decoded."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from service.api import wire
from service.api.call import JSON, Call
from service.api.events.asked import LAST_EVENT_ID, EventsAsked
from service.api.events.pieces import HEARTBEAT, HELLO, Told
from service.api.events.sending import MEANING
from service.api.events.socket import MOST_MESSAGE_BYTES, PROTOCOL
from service.api.openapi import version
from service.domain.cloudevents import TYPE_PREFIX, shown_schemas
from service.domain.events import BODIES

DOCUMENT: web.AppKey[bytes] = web.AppKey("asyncapi", bytes)

_REF = "#/components/schemas/{name}"
_ABOUT = """Every change of the token's project, in the order of the ledger, each once.

The cursor is the position: an event's `id`. A client that was cut off connects again with `after=<the last
id it had>`, or with the `position` that a control frame told it since, and goes on without a gap or a repeat.
The first frame is `jobyard.hello`; `jobyard.heartbeat` follows every quarter of a minute, and when the stream
has caught up. Neither is an event of the ledger: their `id` is no position.

A browser, which cannot set headers for a websocket, sends its token as the sub-protocol
`base64url.bearer.authorization.k8s.io.<token in base64url, without padding>`, beside `cloudevents.json`.

With `Accept: text/event-stream` the same frames come as Server-Sent Events: `id` is the cursor, control
frames have their names (`hello`, `heartbeat`), and `end` tells the code and the reason. `Last-Event-ID`
resumes. A GET that asks for neither is answered with one page as JSON: see /v1/openapi.json."""
_CLOSED = {
    **MEANING,
    1000: "the client closed the stream",
    1009: f"the client sent a message of more than {MOST_MESSAGE_BYTES} bytes; it has nothing to say here",
}


async def asyncapi(call: Call) -> web.Response:
    return web.Response(body=call.request.app[DOCUMENT], content_type=JSON)


def document(public_url: str) -> bytes:
    """The whole document as JSON."""
    schemas = shown_schemas(_REF)
    _, ours = msgspec.json.schema_components([wire.CloudEvent, Told], ref_template=_REF)
    controls = {kind.capitalize(): _message(TYPE_PREFIX + kind, Told) for kind in (HELLO, HEARTBEAT)}
    events = {name: _message(TYPE_PREFIX + name, body) for name, body in BODIES.items()}
    messages = controls | events
    return msgspec.json.encode(
        {
            "asyncapi": "3.0.0",
            "info": {"title": "Jobyard's events", "version": version(), "description": _ABOUT},
            "defaultContentType": JSON,
            "servers": {"jobyard": _server(public_url)},
            "channels": {
                "events": {
                    "address": "/v1/events",
                    "description": "One CloudEvents 1.0 document a text message.",
                    "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
                    "bindings": {"ws": _binding()},
                    "x-close-codes": {str(code): why for code, why in sorted(_CLOSED.items())},
                }
            },
            "operations": {
                "stream": {
                    "action": "send",
                    "channel": {"$ref": "#/channels/events"},
                    "summary": "What there is after a position, then what happens.",
                    "messages": [{"$ref": f"#/channels/events/messages/{name}"} for name in messages],
                }
            },
            "components": {
                "messages": messages,
                "schemas": schemas | ours,
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            },
        }
    )


def _server(public_url: str) -> dict[str, Any]:
    parts = urlsplit(public_url)
    return {
        "host": parts.netloc or "localhost",
        "protocol": "wss" if parts.scheme == "https" else "ws",
        "security": [{"$ref": "#/components/securitySchemes/token"}],
    }


def _message(kind: str, data: type[msgspec.Struct]) -> dict[str, Any]:
    """An event's envelope with what its data holds; a control frame has less of an envelope."""
    data_of = {"type": {"const": kind}, "data": {"$ref": _REF.format(name=data.__name__)}}
    envelope = [] if data is Told else [{"$ref": _REF.format(name=wire.CloudEvent.__name__)}]
    payload = {"type": "object", "required": ["id", "source", "type", "data"], "properties": data_of}
    summary = (data.__doc__ or "").strip().partition("\n")[0]
    return {"name": kind, "title": kind, "summary": summary, "payload": {"allOf": [*envelope, payload]}}


def _binding() -> dict[str, Any]:
    """How the websocket is asked for."""
    _, components = msgspec.json.schema_components([EventsAsked], ref_template=_REF)
    query = components["EventsAsked"]["properties"]
    query.pop("limit")
    query["state"] = query["state"] | {"items": components["State"]}
    query["type"] = query["type"] | {"items": {"type": "string", "enum": sorted(BODIES)}}
    said = (EventsAsked.__doc__ or "").partition("`limit`")[0]
    text = {"type": "string"}
    protocol = text | {"description": f"None, or {PROTOCOL} among others."}
    headers = {"Sec-WebSocket-Protocol": protocol, LAST_EVENT_ID: text | {"description": "SSE alone."}}
    return {
        "method": "GET",
        "query": {"type": "object", "description": said.strip(), "properties": query},
        "headers": {"type": "object", "properties": headers},
        "bindingVersion": "0.1.0",
    }

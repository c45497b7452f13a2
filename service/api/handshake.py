"""What kind of answer a request asks for: one body, a websocket with sub-protocols, Server-Sent Events."""

from __future__ import annotations

from collections.abc import Iterator

from aiohttp import web

#: A browser cannot set headers for a websocket: there the token, in base64url without padding, may follow
#: this in a sub-protocol, beside another one. Source: Kubernetes, apiserver, `websocket/protocol.go`.
SOCKET_TOKEN = "base64url.bearer.authorization.k8s.io."  # noqa: S105 (a prefix, not a value)
PROTOCOL_HEADER = "Sec-WebSocket-Protocol"
#: Server-Sent Events. Source: HTML, "Server-sent events".
EVENT_STREAM = "text/event-stream"


def is_socket(request: web.Request) -> bool:
    return request.headers.get("Upgrade", "").lower() == "websocket"


def is_event_stream(request: web.Request) -> bool:
    accepted = ",".join(request.headers.getall("Accept", [])).lower()
    return EVENT_STREAM in {each.partition(";")[0].strip() for each in accepted.split(",")}


def protocols(request: web.Request) -> list[str]:
    """The sub-protocols that a client offers. What carries its token is none, and must never be shown."""
    offered = (each for value in _headers(request) for each in _listed(value))
    return [each for each in offered if not each.startswith(SOCKET_TOKEN)]


def carried(request: web.Request) -> list[str]:
    """The tokens that a websocket's sub-protocols carry, as they are written there."""
    if not is_socket(request):
        return []
    offered = (each for value in _headers(request) for each in _listed(value))
    return [each.removeprefix(SOCKET_TOKEN) for each in offered if each.startswith(SOCKET_TOKEN)]


def without_token(value: str) -> str:
    """The header's value without what carries a token; empty when nothing is left."""
    return ", ".join(each for each in _listed(value) if not each.startswith(SOCKET_TOKEN))


def _headers(request: web.Request) -> list[str]:
    return request.headers.getall(PROTOCOL_HEADER, [])


def _listed(value: str) -> Iterator[str]:
    return filter(None, (each.strip() for each in value.split(",")))

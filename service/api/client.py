"""Who sent a request: whether he is still there, and whether it was a page of another site."""

from __future__ import annotations

from urllib.parse import urlsplit

from aiohttp import web

from service.errors import Forbidden


def gone(request: web.Request) -> bool:
    """Whether the client has left."""
    return request.transport is None or request.transport.is_closing()


def same_origin(request: web.Request, what: str) -> None:
    """A page of another site must not do `what`, whatever its browser would send along.

    Raises `Forbidden`.
    """
    origin = request.headers.get("Origin")
    if origin is not None and _host(origin) != request.host.lower():
        raise Forbidden(f"Origin: a page of another site cannot {what}")


def _host(origin: str) -> str | None:
    """Host and port of an origin; None for what has none, `null` among it."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:  # a bracket without its other
        return None

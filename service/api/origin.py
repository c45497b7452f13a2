"""From which site's page a request comes: browsers say so, and programs need not."""

from __future__ import annotations

from urllib.parse import urlsplit

from aiohttp import web

from service.errors import Forbidden


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

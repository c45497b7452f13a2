"""What tells about the service itself: health, metrics, the OpenAPI document and its page."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from pathlib import Path

from aiohttp import web

from service.api import wire
from service.api.call import Call
from service.errors import Unavailable

_PAGE = (Path(__file__).parent / "docs.html").read_text()


def _digests(tag: str) -> str:
    """The page's own scripts or styles, as a policy names them: nothing else runs there."""
    found = re.findall(rf"<{tag}>(.*?)</{tag}>", _PAGE, re.DOTALL)
    return " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()}'" for each in found
    )


_POLICY = (
    f"default-src 'none'; script-src {_digests('script')}; style-src {_digests('style')}; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


async def alive(_call: Call) -> wire.Alive:
    return wire.Alive()


async def ready(call: Call) -> wire.Ready:
    """Raises `Unavailable` when the ledger does not answer."""
    started = time.perf_counter()
    head = await call.ledger.head()
    return wire.Ready(position=head.position, seconds=round(time.perf_counter() - started, 6))


async def metrics(call: Call) -> web.Response:
    """The position of the head is left as it was last seen while the ledger does not answer."""
    found = call.service.metrics
    try:
        found.head.set((await call.ledger.head()).position)
    except Unavailable:
        call.service.metrics.head.set(float("nan"))
    return web.Response(
        body=found.text(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
    )


async def docs(_call: Call) -> web.Response:
    response = web.Response(text=_PAGE, content_type="text/html")
    response.headers["Content-Security-Policy"] = _POLICY
    return response

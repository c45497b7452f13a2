"""What tells about the service itself: health, metrics, the OpenAPI document and its page."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from pathlib import Path

import msgspec
from aiohttp import web
from msgspec.structs import replace

from service.api import reads, wire
from service.api.call import EDGE, JSON, Call, answered
from service.api.errors import RETRY_AFTER_S
from service.audit import reading
from service.errors import Unavailable
from service.webhooks.reads import counts

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


async def home(call: Call) -> web.StreamResponse:
    """People are sent to the pages; programs that ask for JSON are told where things are."""
    vary = {"Vary": "Accept"}
    accepted = call.request.headers.get("Accept", "").lower()
    if JSON in accepted and "text/html" not in accepted:
        found = answered(wire.Home())
        found.headers.update(vary)
        return found
    return web.Response(status=302, headers={"Location": wire.Home().docs} | vary)


async def ready(call: Call) -> web.StreamResponse:
    """503 when a part that is needed is down."""
    found = await call.service.readiness.now()
    if found.status == "ready":
        return answered(found)
    edge = call.request[EDGE]
    down = [name for name, part in msgspec.structs.asdict(found.parts).items() if part.status == "down"]
    edge.line["down"] = down
    message = f"The service is not ready: {', '.join(down)}."
    told = replace(found, message=message, code="unavailable", request_id=edge.request_id)
    response = answered(told)
    response.set_status(503)
    response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response


async def metrics(call: Call) -> web.Response:
    """The position of the head is left as it was last seen while the ledger does not answer."""
    found = call.service.metrics
    found.attempted(call.service.parts.hooks.tally)
    found.tasks.set(len(asyncio.all_tasks()))
    try:
        found.head.set((await call.ledger.head()).position)
        found.looked_at(await reads.nodes(call.ledger.pool))
        hooks = await counts(call.ledger.pool)
        signed = await reading.standing(call.ledger.pool)
        found.signed.set(signed.size)
        found.holds.set(signed.holds)
    except Unavailable:
        for gauge in (found.head, found.signed, found.holds):
            gauge.set(float("nan"))
    else:
        found.webhooks.labels("active").set(hooks.webhooks - hooks.paused)
        found.webhooks.labels("failing").set(hooks.failing)
        found.webhooks.labels("paused").set(hooks.paused)
    return web.Response(
        body=found.text(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
    )


async def docs(_call: Call) -> web.Response:
    response = web.Response(text=_PAGE, content_type="text/html")
    response.headers["Content-Security-Policy"] = _POLICY
    return response

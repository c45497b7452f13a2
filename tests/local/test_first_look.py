"""What is said of the parts of a service that has just come up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from aiohttp import web

from service.api import wire
from service.api.readiness import SILENT
from service.local import first_look

REFUSES = "it refuses the service"


@asynccontextmanager
async def looks(*whys: str) -> AsyncIterator[str]:
    """A service whose store is down for these reasons, look by look, and not looked at more often."""
    left = list(whys)

    async def ready(_: web.Request) -> web.Response:
        why, ok = left.pop(0), wire.Part(status="ok")
        store = wire.Part(status="down", why=why) if why else ok
        parts = wire.Parts(database=ok, clock=ok, supervisor=ok, engine=ok, store=store)
        found = wire.Ready(status="not-ready" if why else "ready", parts=parts)
        return web.Response(body=msgspec.json.encode(found))

    app = web.Application()
    app.router.add_get("/readyz", ready)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
    assert left == []


@pytest.mark.parametrize(
    ("whys", "said"),
    [
        (("",), ""),
        ((REFUSES,), REFUSES),
        ((SILENT, ""), ""),
        ((SILENT, SILENT), SILENT),
        ((SILENT, REFUSES), REFUSES),
    ],
)
async def test_what_was_late_once_is_looked_at_again(
    monkeypatch: pytest.MonkeyPatch, whys: tuple[str, ...], said: str
) -> None:
    monkeypatch.setattr(first_look, "KEPT_S", 0.0)
    async with looks(*whys) as url:
        found = await first_look.troubles(url)
    told = (
        f"But the object store is not ready: {said}. {url}/readyz tells when it is, and the log tells more."
    )
    assert found == ([told] if said else [])

"""What the client refuses to send, whoever asks it to."""

from __future__ import annotations

import io
import socket
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from service.cli import client as wire
from service.cli import lasting
from service.cli.client import Client, object_path, segment
from service.cli.where import Where
from service.errors import NotNow, Rejected

BAD = "caf\udce9/"
ASKS: dict[str, Callable[[Client], Awaitable[object]]] = {
    "a parameter": lambda client: client.get("/job", prefix=BAD),
    "one of a list": lambda client: client.delete("/job", state=["a", BAD]),
    "a body": lambda client: client.post("/job", {"envVars": [{"name": "A", "value": BAD}]}),
    "a body's name": lambda client: client.put("/job", {BAD: 1}),
    "a socket's": lambda client: client.socket("/job", [("command", BAD)], "v5").__aenter__(),
}


@pytest.mark.parametrize("what", ASKS)
async def test_what_is_no_text_is_not_sent(what: str) -> None:
    async with Client(Where("http://127.0.0.1:9", "x")) as client:
        with pytest.raises(Rejected, match=r"caf\\xe9/: not UTF-8"):
            await ASKS[what](client)


def test_a_path_of_no_text_is_not_made() -> None:
    with pytest.raises(Rejected, match="not UTF-8"):
        segment(BAD)
    with pytest.raises(Rejected, match="not UTF-8"):
        object_path("a", "c", BAD)


async def test_a_connection_finds_out_that_the_other_side_is_gone() -> None:
    """A stream that only reads would wait for ever for a host that lost its power."""

    async def log(_: web.Request) -> web.Response:
        return web.Response(text="x")

    app = web.Application()
    app.router.add_get("/v1/log", log)
    async with TestServer(app) as server, Client(Where(f"http://127.0.0.1:{server.port}", "x")) as client:
        await client.download("/log", into := io.BytesIO())
        assert into.getvalue() == b"x"
        assert client._session.connector is not None
        (held,) = client._session.connector._conns.values()
        assert held[0][0].transport is not None
        opened = held[0][0].transport.get_extra_info("socket")
        assert opened.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == lasting.IDLE_S


@pytest.mark.parametrize(("tried_s", "asked"), [(0.0, 1), (3600.0, wire.ATTEMPTS)])
async def test_what_the_service_has_tried_for_long_is_not_asked_again(
    monkeypatch: pytest.MonkeyPatch, tried_s: float, asked: int
) -> None:
    """A store that does not answer: each time more is another minute, and nobody hears of it."""
    monkeypatch.setattr(wire, "TRIED_S", tried_s)
    monkeypatch.setattr(wire, "PAUSE_S", 0.0)
    times: list[str] = []

    async def listed(request: web.Request) -> web.Response:
        times.append(request.path)
        return web.json_response({"message": "the store did not answer", "code": "unavailable"}, status=503)

    app = web.Application()
    app.router.add_get("/v1/list", listed)
    async with TestServer(app) as server, Client(Where(f"http://127.0.0.1:{server.port}", "x")) as client:
        with pytest.raises(NotNow, match="the store did not answer"):
            await client.get("/list")
    assert len(times) == asked

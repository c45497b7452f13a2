"""What is said last over a websocket arrives, or is given up in good time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import WSCloseCode, WSMsgType, web
from aiohttp.test_utils import TestServer

from service.api import last_words
from tests.support.websocket import single_minded

#: More than the kernel holds for a connection.
_MUCH = 16 * 1024**2
_FOREVER_S = 60.0


@asynccontextmanager
async def served(ends: Callable[[web.Request, web.WebSocketResponse], Awaitable[None]]) -> AsyncIterator[str]:
    """A server whose sockets end so; its URL."""

    async def handle(request: web.Request) -> web.WebSocketResponse:
        # With such a limit nothing that is sent waits for the client to take it.
        socket = web.WebSocketResponse(autoclose=False, compress=False, writer_limit=2 * _MUCH)
        await socket.prepare(request)
        await ends(request, socket)
        return socket

    app = web.Application()
    app.router.add_get("/", handle)
    async with asyncio.timeout(_FOREVER_S), TestServer(app) as server:
        yield str(server.make_url("/"))


async def test_a_client_that_reads_only_when_it_has_written_hears_everything() -> None:
    agreed: list[bool] = []

    async def ends(request: web.Request, socket: web.WebSocketResponse) -> None:
        await socket.send_bytes(bytes(_MUCH))
        agreed.append(
            await last_words.close(
                request, socket, WSCloseCode.OK, "that is all", silent_s=_FOREVER_S, within_s=_FOREVER_S
            )
        )

    async with served(ends) as url:
        with single_minded(url, "/", {}) as client:
            frames = await asyncio.to_thread(client.write_then_read, bytes(_MUCH // 64), 2 * 64)
    assert [(kind, len(data)) for kind, data in frames] == [(WSMsgType.BINARY, _MUCH), (WSMsgType.CLOSE, 13)]
    assert frames[-1][1] == b"\x03\xe8that is all"
    assert agreed == [True]


@pytest.mark.parametrize(
    ("silent_s", "within_s", "most_bytes", "sends"),
    [
        (0.05, _FOREVER_S, 1024**2, False),
        (_FOREVER_S, 0.05, 1024**2, False),
        (_FOREVER_S, _FOREVER_S, 1024**2, True),
        (_FOREVER_S, 0.05, 1024**4, True),
    ],
)
@pytest.mark.parametrize("size", [0, 1000])
async def test_a_client_that_never_agrees_is_given_up(
    monkeypatch: pytest.MonkeyPatch, silent_s: float, within_s: float, most_bytes: int, sends: bool, size: int
) -> None:
    monkeypatch.setattr(last_words, "MOST_UNWANTED_BYTES", most_bytes)
    given_up = asyncio.Event()

    async def ends(request: web.Request, socket: web.WebSocketResponse) -> None:
        agreed = await last_words.close(request, socket, WSCloseCode.OK, silent_s=silent_s, within_s=within_s)
        assert not agreed
        given_up.set()

    async with (
        served(ends) as url,
        aiohttp.ClientSession() as http,
        http.ws_connect(url, autoclose=False) as client,
    ):
        with pytest.raises(ConnectionError) if sends else contextlib.nullcontext():
            while sends:
                await client.send_bytes(bytes(size))
                await asyncio.sleep(0)
        await given_up.wait()
        assert (await client.receive()).type in (WSMsgType.CLOSE, WSMsgType.CLOSED)

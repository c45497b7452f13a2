"""Below the router: what is no HTTP is answered in our shape, and no answer tells what it is made with."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog
from aiohttp import web

from service.api import door
from service.api.call import SERVICE
from service.api.errors import MOST_HEADER_BYTES, MOST_HEADERS, MOST_TARGET_BYTES
from service.api.watch import SERVICE_ENDS
from service.paced import FULL_BYTES, rest
from tests.api.yard import ADMIN, DEADLINE_S, Answer, Yard, opened
from tests.support.waiting import until

HOST = b"Host: x\r\n"
END = b"\r\n\r\n"
SECRET = b"hunter2hunter2"
POST = b"POST /v1/job HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked"

#: What is sent, the status and the code it gets, and what the message says.
BROKEN: list[tuple[bytes, int, str, str]] = [
    (b"G@T / HTTP/1.1\r\n" + HOST + END, 400, "bad-request", "HTTP method"),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "bad-request", "TLS"),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "bad-request", "cannot be read"),
    (b"GET / HTTP/9.9\r\n" + HOST + END, 400, "bad-request", "first line"),
    (b"CONNECT x:80" + END, 400, "bad-request", "first line"),
    (b"GET / HTTP/2.0\r\n" + HOST + END, 400, "bad-request", "first line"),
    (b"GET  HTTP/1.1\r\n" + HOST + END, 400, "bad-request", "path"),
    (b"GET /\xff HTTP/1.1\r\n" + HOST + END, 400, "bad-request", "path"),
    (b"GET http://[::1/ HTTP/1.1\r\n" + HOST + END, 400, "bad-request", "path"),
    (b"GET / HTTP/1.1" + END, 400, "bad-request", "Host"),
    (b"GET / HTTP/1.1\r\nA\x00: b\r\n" + HOST + END, 400, "bad-request", "header"),
    (b"GET / HTTP/1.1\r\nHost: x\r\nHost: y" + END, 400, "bad-request", "Host"),
    (b"GET / HTTP/1.1\r\nSec-WebSocket-Key1: " + SECRET + END, 400, "bad-request", "cannot be read"),
    (b"GET /" + b"a" * MOST_TARGET_BYTES + b" HTTP/1.1\r\n" + HOST + END, 414, "target-too-long", "8190"),
    (b"GET / HTTP/1.1\r\nA: " + b"b" * MOST_HEADER_BYTES + END, 431, "headers-too-large", "8191"),
    (b"GET / HTTP/1.1\r\n" + b"b" * (MOST_HEADER_BYTES + 1) + b": a" + END, 431, "headers-too-large", "8191"),
    (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * (MOST_HEADERS + 1) + END, 431, "headers-too-large", "64"),
    (POST + b"Content-Length: abc" + END, 400, "bad-request", "Content-Length"),
    (POST + b"Content-Length: -1" + END, 400, "bad-request", "Content-Length"),
    (CHUNKED + b"\r\nContent-Length: 3" + END, 400, "bad-request", "Content-Length"),
    (CHUNKED.replace(b"chunked", b"rot13") + END + b"0" + END, 400, "bad-request", "Transfer-Encoding"),
    (CHUNKED + END + b"zz\r\n", 400, "bad-request", "chunk size"),
    (POST + b"Expect: magic" + END, 417, "expectation-failed", "100-continue"),
    (POST.replace(b"/job", b"/no") + b"Expect: magic" + END, 417, "expectation-failed", "100-continue"),
]  # fmt: skip


def _ours(answer: Answer, status: int, code: str, says: str) -> None:
    """The one shape of an error, with the headers that every answer has."""
    assert (answer.status, answer.json["code"]) == (status, code), answer.raw
    assert says in answer.json["message"]
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.headers["X-Request-Id"] == answer.json["requestId"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Server"] == "jobyard"
    assert SECRET not in answer.raw


async def test_what_cannot_be_read_is_answered_in_our_shape(
    yard: Yard, caplog: pytest.LogCaptureFixture
) -> None:
    for sent, status, code, says in BROKEN:
        with structlog.testing.capture_logs() as lines:
            (answer,) = await yard.talk(sent)
        _ours(answer, status, code, says)
        (line,) = lines
        assert (line["event"], line["log_level"], line["status"]) == ("request", "info", status)
        assert line["request_id"] == answer.json["requestId"]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    text = (await yard.call("GET", "/metrics")).raw.decode()
    assert 'jobyard_api_requests_total{method="OTHER",route="broken",status="414"} 1.0' in text


async def test_what_just_fits_is_taken(yard: Yard) -> None:
    target = b"/healthz?" + b"a" * (MOST_TARGET_BYTES - 9)
    header = b"A: " + b"b" * (MOST_HEADER_BYTES - 1) + b"\r\n"
    more = b"A: b\r\n" * (MOST_HEADERS - 3)
    sent = b"GET " + target + b" HTTP/1.1\r\nConnection: close\r\n" + HOST + header + more + b"\r\n"
    (answer,) = await yard.talk(sent)
    assert answer.status == 200, answer.raw


async def test_a_broken_request_ends_the_connection_after_the_answers_before_it(yard: Yard) -> None:
    good = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"
    first, second = await yard.talk(good, b"G@T /\r\n\r\n" + good, until=b'{"status":"alive"}')
    assert (second.status, first.headers["Server"]) == (400, "jobyard")
    assert second.headers["Server"] == "jobyard"


async def test_a_body_that_breaks_on_its_way_is_refused_at_once(
    yard: Yard, caplog: pytest.LogCaptureFixture
) -> None:
    token = yard.tokens[ADMIN].encode()
    head = CHUNKED + b"\r\nExpect: 100-continue\r\nAuthorization: Bearer " + token + END
    for broken in (b"zz\r\n", b'2\r\n{"XX\r\n', b"5;" + b"x" * 20 + b"\n"):
        with structlog.testing.capture_logs() as lines:
            (answer,) = await yard.talk(head, broken, until=b"100 Continue\r\n\r\n")
        assert (answer.status, answer.json["field"]) == (400, "body"), answer.raw
        assert "broken" in answer.json["message"]
        assert [line for line in lines if line["log_level"] not in ("debug", "info")] == []
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_client_that_leaves_in_the_middle_of_a_body_is_no_failure_of_ours(yard: Yard) -> None:
    host, _, port = yard.url.removeprefix("http://").partition(":")
    head = (
        b"Expect: 100-continue\r\nContent-Length: 50\r\nAuthorization: Bearer " + yard.tokens[ADMIN].encode()
    )
    with structlog.testing.capture_logs() as lines:
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(POST + head + END)
        await reader.readuntil(b"100 Continue\r\n\r\n")
        writer.write(b'{"ima')
        await writer.drain()
        writer.transport.abort()
        await until(lambda: any(line.get("route") == "/v1/job" for line in lines), what="its line in the log")
    (line,) = [line for line in lines if line.get("route") == "/v1/job"]
    assert line["status"] == 400
    assert [line for line in lines if line["log_level"] not in ("debug", "info")] == []


async def test_a_client_that_stops_in_the_middle_of_a_head_is_let_go(database: str, tmp_path: Path) -> None:
    """The time to keep an idle connection bounds the head too, on a new connection and on a used one."""
    good = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"
    async with opened(database, tmp_path, {}, keep_alive_s=0.5) as yard:
        assert await yard.talk(b"GET /healthz HTTP/1.1\r\nHost", says_the_end=False) == []
        answer, *more = await yard.talk(good + b"GET /healthz HTT", says_the_end=False)
        assert (answer.status, more) == (200, [])


async def test_nothing_tells_what_the_service_is_made_with(database: str, tmp_path: Path) -> None:
    async def socket(request: web.Request) -> web.WebSocketResponse:
        made = web.WebSocketResponse()
        await made.prepare(request)
        await made.close()
        return made

    def furnished(app: web.Application) -> None:
        app.router.add_get("/socket", socket)

    seen: dict[str, Any] = {}
    async with opened(database, tmp_path, {}, furnished=furnished) as yard:
        for method, path in (("GET", "/healthz"), ("GET", "/v1/me"), ("GET", "/nowhere"), ("GET", "/docs"),
                             ("PUT", "/docs"), ("OPTIONS", "/docs"), ("HEAD", "/healthz")):  # fmt: skip
            seen[f"{method} {path}"] = (await yard.call(method, path, token=None)).headers
        timeout = aiohttp.ClientWSTimeout(ws_close=DEADLINE_S)
        async with yard.http.ws_connect(f"{yard.url}/socket", timeout=timeout) as opened_socket:
            seen["websocket"] = opened_socket._response.headers
        for sent, *_ in BROKEN:
            seen[repr(sent[:40])] = (await yard.talk(sent))[0].headers
    for what, headers in seen.items():
        assert headers.getall("Server") == ["jobyard"], what
        assert "aiohttp" not in str(headers).lower(), what


async def test_what_is_on_its_way_is_heard_out_while_the_service_closes(
    database: str, tmp_path: Path
) -> None:
    """The rest of a body, and a websocket's agreement to be closed."""
    closes = asyncio.Event()
    codes: list[int | None] = []

    async def echo(request: web.Request) -> web.Response:
        return web.json_response({"said": await request.text()})

    async def socket(request: web.Request) -> web.WebSocketResponse:
        made = web.WebSocketResponse()
        await made.prepare(request)
        await closes.wait()
        await made.close(code=1012)
        codes.append(made.close_code)
        return made

    async def ends(_app: web.Application) -> None:
        closes.set()

    def furnished(app: web.Application) -> None:
        app.router.add_post("/echo", echo)
        app.router.add_get("/socket", socket)
        app.on_shutdown.append(ends)

    async with AsyncExitStack() as stack, aiohttp.ClientSession() as http:
        yard = await stack.enter_async_context(opened(database, tmp_path, {}, furnished=furnished))
        host, _, port = yard.url.removeprefix("http://").partition(":")
        listening = await http.ws_connect(f"{yard.url}/socket")
        hearing = asyncio.create_task(listening.receive())
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 8\r\n" + HOST + b"\r\n")
        await reader.readuntil(b"100 Continue\r\n\r\n")
        writer.write(b"half")
        closing = asyncio.create_task(stack.aclose())
        await closes.wait()
        writer.write(b"half")
        async with asyncio.timeout(DEADLINE_S):
            assert b'{"said": "halfhalf"}' in await reader.read()
            await hearing
            await closing
        writer.close()
    assert (listening.close_code, codes) == (1012, [1000])  # as the client of aiohttp agrees


async def test_whoever_comes_while_the_service_closes_is_told_so(yard: Yard) -> None:
    watch = yard.app[SERVICE].watch
    watch.stop()  # as after an outage
    with watch.followed(None, 0, None) as later:
        assert not later.cut.is_set()
    watch.close()
    with watch.followed(None, 0, None) as late:
        assert (late.cut.is_set(), late.why) == (True, SERVICE_ENDS)


async def test_a_body_is_read_once_a_turn(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends without pause would else keep the loop for 32 reads in a row."""
    reading: list[bool] = []

    def spied(protocol: door.Door, data: bytes) -> None:
        rest(protocol, data)
        if len(data) >= FULL_BYTES and protocol.transport is not None:
            reading.append(protocol.transport.is_reading())

    monkeypatch.setattr("service.api.door.rest", spied)
    answer = await yard.call("POST", "/v1/job", token=ADMIN, data=b"[" + b" " * 4 * FULL_BYTES + b"]")
    assert answer.status == 413, answer.raw
    assert reading and not any(reading)

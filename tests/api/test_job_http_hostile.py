"""A job's own HTTP service that lies, breaks off, never ends or never answers: nobody else suffers."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType
from structlog.testing import capture_logs

from tests.api.job_web import Web, saying
from tests.api.yard import ADMIN, DEADLINE_S, READER, Supervision, Yard
from tests.supervisor.lab import Lab
from tests.support.waiting import until

OK = b"HTTP/1.1 200 OK\r\n"
FINE = OK + b"Content-Length: 2\r\n\r\nok"


@pytest.fixture
async def web(yard: Yard, supervision: Supervision, lab: Lab) -> Web:
    return await saying(yard, supervision, lab)


def says(first: bytes, then: str = "close", again: bytes = b"") -> str:
    """The path that makes the server say it."""
    spelt = "/".join(base64.urlsafe_b64encode(each).decode() for each in (first, again))
    return f"/{then}/{spelt}"


async def left(web: Web) -> int:
    """How many connections the server held that ended from our side."""
    answer = await web.path("GET", "/left")
    assert answer.status == 200, answer.raw
    return int(answer.raw)


async def still_well(web: Web) -> None:
    """The service, and the job's own way, go on."""
    assert (await web.path("GET", says(FINE))).raw == b"ok"
    assert (await web.yard.call("GET", "/v1/me")).status == 200


NO_ANSWERS = {
    "nothing": b"",
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "a status below all": b"HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n",
    "a switch that nobody asked for": b"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nGET /",
    "a length that is none": OK + b"Content-Length: -2\r\n\r\nok",
    "two lengths": OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
    "a name with a space": OK + b"Content Length: 2\r\n\r\nok",
    "a header that goes on": OK + b"X-A: 1\r\n Set-Cookie: a=b\r\n\tx\r\nContent-Length -\r\n\r\n",
}


async def test_what_is_no_answer_is_told_as_none(web: Web) -> None:
    for what, said in NO_ANSWERS.items():
        answer = await web.path("GET", says(said))
        assert (answer.status, answer.json["code"]) == (503, "unavailable"), (what, answer.raw)
        assert "port 8080" in answer.json["message"]
        await still_well(web)


HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
ENDLESS = {
    "a line": (OK + b"X-A: ", b"a" * 1000),
    "lines": (OK, b"X-A: a\r\n" * 100),
    "early hints": (b"", HINTS),
}


@pytest.mark.parametrize("what", ENDLESS)
async def test_a_head_without_an_end_is_not_read_to_it(web: Web, what: str) -> None:
    first, again = ENDLESS[what]
    async with asyncio.timeout(20):
        answer = await web.path("GET", says(first, "over", again))
    assert (answer.status, answer.json["code"]) == (503, "unavailable")
    await until(lambda: one_left(web))


async def one_left(web: Web) -> bool:
    return await left(web) == 1


WAITS = {
    "silence": ("hold", b"", b""),
    "half a head": ("hold", OK, b""),
    "early hints": ("hold", HINTS * 16, b""),
}


@pytest.mark.parametrize("what", WAITS)
async def test_a_token_that_ends_cuts_what_waits_for_an_answer(web: Web, what: str) -> None:
    then, first, again = WAITS[what]
    token_id = await web.yard.token("ci", READER)
    waiting = asyncio.create_task(web.path("GET", says(first, then, again), token="ci"))
    sending = asyncio.create_task(web.host("POST", says(first, then, again), token="ci", data=b"abc"))
    await until(lambda: held(web, 2))
    assert (await web.yard.call("DELETE", f"/v1/token/{token_id}", token=ADMIN)).status == 204
    async with asyncio.timeout(20):
        for answer in await asyncio.gather(waiting, sending):
            assert (answer.status, "revoked" in answer.json["message"]) == (503, True), answer.raw
    await until(lambda: two_left(web))
    await still_well(web)


async def held(web: Web, count: int) -> bool:
    """How many connections the server has just now, this one beside."""
    answer = await web.path("GET", "/held")
    return int(answer.raw) == count


async def two_left(web: Web) -> bool:
    return await left(web) == 2


@pytest.mark.parametrize("what", WAITS)
async def test_a_client_that_leaves_takes_its_request_along(web: Web, what: str) -> None:
    then, first, again = WAITS[what]
    waiting = asyncio.create_task(web.path("GET", says(first, then, again)))
    await until(lambda: held(web, 1))
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    await until(lambda: one_left(web))


BROKEN = {
    "too short": OK + b"Content-Length: 10\r\n\r\nok",
    "a chunk that is none": OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n",
    "no last chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
}


async def test_an_answer_that_breaks_off_does_not_look_whole(web: Web) -> None:
    with capture_logs() as lines:
        for what, said in BROKEN.items():
            try:
                answer = await web.path("GET", says(said))
            except aiohttp.ClientError:
                pass
            else:
                assert answer.status == 503, (what, answer.raw)
            await still_well(web)
    assert not [line for line in lines if line["log_level"] == "error"], "it is no failure of ours"


async def test_a_body_where_none_may_be_is_no_second_answer(web: Web) -> None:
    """What follows on the same connection is ours, whatever the job said after its head."""
    forged = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"
    token = web.yard.tokens[READER]
    for head in (
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
        OK + b"Content-Length: 0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ):
        first = f"GET /job/{web.job}{says(head + forged)} HTTP/1.1"
        asked = "".join(
            f"{line}\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
            for line in (first, "GET /healthz HTTP/1.1")
        )
        received = await raw(web, asked.encode())
        assert b"forged" not in received, (head, received)
        assert received.count(b"HTTP/1.1 ") == 2 and received.rstrip().endswith(b"}"), received


async def raw(web: Web, sent: bytes) -> bytes:
    """All that comes on a connection of its own until the second answer is there."""
    host, _, port = web.yard.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    received = b""
    try:
        writer.write(sent)
        async with asyncio.timeout(DEADLINE_S):
            while not (received.count(b"HTTP/1.1 ") == 2 and received.endswith(b"}")):
                part = await reader.read(65536)
                if not part:
                    break
                received += part
    finally:
        writer.transport.abort()
    return received


def with_headers(*lines: bytes) -> str:
    return says(OK + b"".join(line + b"\r\n" for line in lines) + b"Content-Length: 2\r\n\r\nok")


async def test_what_speaks_for_an_origin_is_not_said_for_ours(web: Web) -> None:
    origin = {"Clear-Site-Data": '"*"', "Alt-Svc": 'h2="evil:443"', "Service-Worker-Allowed": "/",
              "Strict-Transport-Security": "max-age=9", "NEL": "{}", "Report-To": "{}"}  # fmt: skip
    to_proxies = {"X-Accel-Redirect": "/etc/passwd", "X-Sendfile": "/etc/passwd"}
    path = with_headers(*(f"{name}: {value}".encode() for name, value in (origin | to_proxies).items()))
    by_path, by_host = await web.path("GET", path), await web.host("GET", path)
    assert by_path.raw == by_host.raw == b"ok"
    assert not (origin | to_proxies).keys() & set(by_path.headers)
    assert not to_proxies.keys() & set(by_host.headers)
    assert origin.keys() <= set(by_host.headers)


async def test_nothing_is_added_that_the_job_did_not_say(web: Web) -> None:
    bare = await web.host("GET", says(FINE))
    assert {name.lower() for name in bare.headers} == {"content-length", "date", "x-request-id"}
    said = await web.host("GET", with_headers(b"Server: mine/1", b"Content-Type: text/x"))
    assert (said.headers["Server"], said.headers["Content-Type"]) == ("mine/1", "text/x")


async def test_bytes_of_no_encoding_are_read_as_they_were_meant(web: Web) -> None:
    latin = await web.host("GET", with_headers(b"X-Latin: caf\xe9", "X-Plain: café".encode()))
    assert (latin.headers["X-Latin"], latin.headers["X-Plain"]) == ("café", "café")
    reason = await web.host("GET", says(b"HTTP/1.1 200 \xff\xe9\r\nContent-Length: 2\r\n\r\nok"))
    assert reason.raw == b"ok"
    await still_well(web)


HANDSHAKES = {
    "an answer": FINE,
    "no answer": b"",
    "another key": b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
}


async def test_a_socket_that_the_job_does_not_open_is_none(web: Web) -> None:
    for what, said in HANDSHAKES.items():
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await opened(web, says(said))
        assert refused.value.status == 503, what
        await still_well(web)


async def test_a_socket_is_opened_nowhere_else(web: Web) -> None:
    """From where we stand, an address that a job names may be another project's job, or this machine."""
    came: list[object] = []
    elsewhere = await asyncio.start_server(lambda _, writer: came.append(writer), "127.0.0.1", 0)
    async with elsewhere:
        port = elsewhere.sockets[0].getsockname()[1]
        for status in (301, 302, 303, 307, 308):
            said = f"HTTP/1.1 {status} Go\r\nLocation: http://127.0.0.1:{port}/\r\nContent-Length: 0\r\n\r\n"
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await opened(web, says(said.encode()))
            assert refused.value.status == 503
    assert came == []
    await still_well(web)


async def test_a_handshake_that_is_none_does_not_reach_the_job(web: Web) -> None:
    headers = {"Connection": "Upgrade", "Upgrade": "websocket"}
    answer = await web.path("GET", says(b"", "hold"), headers=headers)
    assert (answer.status, answer.json["code"]) == (400, "invalid")
    assert "Sec-WebSocket-Key" in answer.json["message"]


async def test_a_header_that_is_spelt_like_another_is_not_sent_on(web: Web) -> None:
    """A parser before us may take off the space in front of the colon."""
    for name in (b"Transfer-Encoding ", b"Content-Length ", b"Connection ", b"Set-Cookie "):
        answer = await web.path("GET", says(OK + name + b": 2\r\nX-Fine: 1\r\nContent-Length: 2\r\n\r\nok"))
        passed = {each for each in answer.headers if each.strip().encode() == name.strip()}
        assert not {each for each in passed if each != each.strip()}, answer.headers


async def test_a_socket_that_waits_for_the_job_ends_with_its_token(web: Web) -> None:
    token_id = await web.yard.token("ci", READER)
    waiting = asyncio.create_task(opened(web, says(b"", "hold"), token="ci"))
    await until(lambda: held(web, 1))
    assert (await web.yard.call("DELETE", f"/v1/token/{token_id}", token=ADMIN)).status == 204
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with asyncio.timeout(20):
            await waiting
    assert refused.value.status == 503
    await until(lambda: one_left(web))


async def opened(web: Web, path: str, *, token: str = READER) -> Any:
    headers = {"Authorization": f"Bearer {web.yard.tokens[token]}"}
    return await web.yard.http.ws_connect(f"{web.yard.url}/job/{web.job}{path}", headers=headers)


FRAMES = {
    "of no kind": (b"\x83\x02ok", 1002),
    "no text": (b"\x81\x02\xff\xff", 1007),
    "too large": (b"\x82\x7f" + (1 << 40).to_bytes(8), 1009),
    "a code that is none": (b"\x88\x02" + (999).to_bytes(2), 1002),
    "a reason": (b"\x88\x06" + (1011).to_bytes(2) + b"busy", 1011),
}


async def test_frames_that_are_none_end_the_socket(web: Web) -> None:
    for what, (frame, code) in FRAMES.items():
        socket = await opened(web, f"/socket{says(frame, 'hold')}")
        async with asyncio.timeout(25):
            message = await socket.receive()
        assert (message.type, message.data) == (WSMsgType.CLOSE, code), what
        assert (message.extra == "busy") == (what == "a reason")
        await still_well(web)


async def test_a_cookie_is_the_jobs_alone_however_it_is_spelt(web: Web) -> None:
    """A control character is a space once it is sent on, and spaces around a name are none of it."""
    path = with_headers(b"Set-Cookie: a=b; domain\x01=job.localhost; Secure", b"Set-Cookie: c=d;\x02Domain=x")
    by_host, by_path = await web.host("GET", path), await web.path("GET", path)
    assert by_host.headers.getall("Set-Cookie") == ["a=b; Secure", "c=d"]
    prefix = f"/job/{web.job}/"
    assert by_path.headers.getall("Set-Cookie") == [f"a=b; Secure; Path={prefix}", f"c=d; Path={prefix}"]


@pytest.mark.parametrize("who", ["client", "token"])
async def test_a_job_that_goes_on_talking_keeps_no_socket_open(web: Web, who: str) -> None:
    """It never says that it closes: what it says instead is not listened to for ever."""
    token_id = await web.yard.token("ci", READER)
    path = says(b"", "over", b"\x82\x02ok")
    socket = await opened(web, f"/socket{path}", token="ci")
    await until(lambda: held(web, 1))
    if who == "client":
        await socket.close()
    else:
        assert (await web.yard.call("DELETE", f"/v1/token/{token_id}", token=ADMIN)).status == 204
    await until(lambda: one_left(web))

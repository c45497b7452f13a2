"""A job's own HTTP service through ours: a real web server in a real container, curl and real sockets."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from aiohttp import WSMsgType

from service.api.auth import sha256_of
from service.api.job_http import sockets
from service.domain import commands as cmd
from tests.api.job_web import Web, served
from tests.api.yard import ADMIN, DEADLINE_S, OPERATOR, READER, Answer, Supervision, Yard
from tests.supervisor.lab import Lab
from tests.support.waiting import until

BIG = 32 * 1024**2


def seen(answer: Answer) -> tuple[Any, dict[str, str]]:
    """What the server in the container saw."""
    assert answer.status == 200, answer.raw
    headers = {name.lower(): value for name, value in answer.json["headers"]}
    return answer.json, headers


@pytest.fixture
async def web(yard: Yard, supervision: Supervision, lab: Lab) -> Web:
    container = await served(lab, 9000, 8080)
    job = await yard.submit(labels={"team": "a"})
    await supervision.running(job["id"], container=container)
    return Web(yard, supervision, lab, job["id"], container)


async def test_both_ways_lead_to_the_same_server_and_ports_differ(web: Web) -> None:
    for ask in (web.host, web.path):
        found, _ = seen(await ask("GET", "/a/b%2Fc?x=1&y=%20"))
        assert (found["path"], found["port"], found["method"]) == ("/a/b%2Fc?x=1&y=%20", 8080, "GET")
        assert seen(await ask("GET", "/", port="-9000"))[0]["port"] == 9000
        for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            assert seen(await ask(method, "/"))[0]["method"] == method
        head = await ask("HEAD", "/")
        assert (head.status, head.headers["Content-Length"], head.raw) == (200, "12345", b"")
    status = (await web.yard.call("GET", f"/v1/job/{web.job}")).json["status"]
    assert status["url"] == f"http://yard.test/job/{web.job}/"
    bare = await web.path("GET", "")
    assert (bare.status, bare.headers["Location"]) == (308, f"/job/{web.job}/")


async def test_what_is_ours_does_not_reach_the_job_and_what_is_its_own_does(web: Web) -> None:
    sent = {
        "X-Forwarded-For": "6.6.6.6", "X-Forwarded-Host": "evil", "Forwarded": "for=6.6.6.6",
        "Connection": "X-Hop", "X-Hop": "1", "TE": "trailers", "Proxy-Authorization": "Basic x",
        "X-Mine": "yes", "Cookie": "c=1",
    }  # fmt: skip
    for ask, prefix in ((web.host, ""), (web.path, f"/job/{web.job}")):
        _, headers = seen(await ask("GET", "/", headers=sent))
        assert web.yard.tokens[READER] not in json.dumps(headers)
        assert not headers.keys() & {"authorization", "x-hop", "te", "forwarded", "proxy-authorization"}
        assert (headers["x-mine"], headers["cookie"]) == ("yes", "c=1")
        assert (headers["x-forwarded-for"], headers["x-forwarded-proto"]) == ("127.0.0.1", "http")
        assert headers["x-forwarded-host"] == headers["host"]
        assert headers.get("x-forwarded-prefix", "") == prefix


async def test_what_the_job_answers_stays_the_jobs(web: Web) -> None:
    by_host = await web.host("GET", "/redirect")
    assert (by_host.status, by_host.headers["Location"]) == (302, "/elsewhere")
    assert by_host.headers["Set-Cookie"] == "a=b; Path=/p; HttpOnly"
    assert "Content-Security-Policy" not in by_host.headers
    prefix = f"/job/{web.job}"
    by_path = await web.path("GET", "/redirect")
    assert by_path.headers["Location"] == f"{prefix}/elsewhere"
    assert by_path.headers["Set-Cookie"] == f"a=b; HttpOnly; Path={prefix}/p"
    assert by_path.headers["Content-Security-Policy"].startswith("sandbox ")
    echoed = await web.host("GET", "/")
    assert echoed.headers["X-Frame-Options"] == "SAMEORIGIN"
    assert "X-Request-Id" in echoed.headers


async def test_large_bodies_are_streamed_both_ways(web: Web) -> None:
    taken = hashlib.sha256()

    async def sent() -> AsyncIterator[bytes]:
        for number in range(BIG // 65536):
            block = bytes([number % 256]) * 65536
            taken.update(block)
            yield block

    found, headers = seen(await web.path("POST", "/up", data=sent()))
    assert (found["size"], found["sha256"]) == (BIG, taken.hexdigest())
    assert headers["transfer-encoding"] == "chunked"
    down = await web.host("GET", f"/big/{BIG}")
    assert (down.status, len(down.raw), down.headers["Content-Length"]) == (200, BIG, str(BIG))
    short, headers = seen(await web.host("POST", "/up", data=b"abc"))
    assert (short["size"], headers["content-length"]) == (3, "3")


async def test_events_arrive_as_they_are_sent_and_end_with_the_token(web: Web) -> None:
    token_id = await web.yard.token("ci", READER)
    headers = {"Authorization": f"Bearer {web.yard.tokens['ci']}"}
    async with web.yard.http.get(f"{web.yard.url}/job/{web.job}/events", headers=headers) as answer:
        async with asyncio.timeout(DEADLINE_S):
            assert await answer.content.readany() == b"data: one\n\n"
        revoked = await web.yard.call("DELETE", f"/v1/token/{token_id}", token=ADMIN)
        assert revoked.status == 204
        with pytest.raises(aiohttp.ClientPayloadError):
            async with asyncio.timeout(DEADLINE_S):
                await answer.read()


async def test_sockets_carry_text_bytes_protocols_and_closing_codes(web: Web) -> None:
    socket = await web.socket(protocols=("other", "echo.test"))
    assert socket.protocol == "echo.test"
    await socket.send_str("hello é")
    assert (await socket.receive_str()) == "hello é"
    for size in (0, 1, 125, 126, 70_000):
        await socket.send_bytes(b"\x00\xff" * size)
        assert (await socket.receive_bytes()) == b"\x00\xff" * size
    await socket.ping()
    await socket.send_str("close 4321")
    assert (await socket.receive()).type is WSMsgType.CLOSE
    assert socket.close_code == 4321
    ours = await web.socket()
    await ours.send_str("x")
    await ours.receive_str()
    assert await ours.close(code=4000)


async def test_a_client_that_still_sends_is_heard_out_when_its_job_closes(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that is let go with messages on their way is reset, and the job's last words with it."""
    monkeypatch.setattr(sockets, "CLOSE_S", 60.0)
    socket = await web.socket(autoclose=False)
    await socket.send_str("close 4321")
    async with asyncio.timeout(20):
        assert (await socket.receive()).type is WSMsgType.CLOSE
        assert socket.close_code == 4321
        for _ in range(400):  # more than any buffer between the two holds
            await socket.send_bytes(b"x" * 50_000)
        await socket.close()


async def test_an_open_socket_ends_with_its_token(web: Web) -> None:
    token_id = await web.yard.token("ci", READER)
    socket = await web.socket(token="ci")
    await socket.send_str("x")
    await socket.receive_str()
    assert (await web.yard.call("POST", f"/v1/token/{token_id}/renew", token=ADMIN)).status == 200
    async with asyncio.timeout(DEADLINE_S):
        assert (await socket.receive()).type is WSMsgType.CLOSE
    assert socket.close_code == 1008


def basic(value: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"me:{value}".encode()).decode()}


async def test_who_may_come_in(web: Web) -> None:
    for ask in (web.host, web.path):
        nobody = await ask("GET", "/", token=None)
        assert nobody.status == 401
        assert {each.split()[0] for each in nobody.headers.getall("WWW-Authenticate")} == {"Bearer", "Basic"}
        assert (await ask("GET", "/", token="wrong")).status == 401
        assert (await ask("GET", "/", token="other")).status == 404
        by_browser = await ask("GET", "/", token=None, headers=basic(web.yard.tokens[READER]))
        assert "authorization" not in seen(by_browser)[1]
        assert (await ask("GET", "/", token=None, headers=basic("wrong"))).status == 401
        assert (await ask("GET", "/", token=None, headers={"Authorization": "Basic ???"})).status == 401
        await web.yard.token("scoped", OPERATOR, selector="team=b")
        assert (await ask("GET", "/", token="scoped")).status == 404
        await web.yard.token("scoped", READER, selector="team=a")
        assert (await ask("GET", "/", token="scoped")).status == 200


async def test_another_sites_page_cannot_use_a_browsers_credentials(web: Web) -> None:
    mine = basic(web.yard.tokens[READER])
    for more, status in (
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "http://["}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}, 200),
    ):
        assert (await web.host("GET", "/", token=None, headers=mine | more)).status == status, more
    posted = mine | {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert (await web.host("POST", "/", token=None, headers=posted)).status == 403


async def test_an_unsecure_job_is_open_and_gets_its_own_credentials(web: Web) -> None:
    job = await web.yard.submit(unsecureHttp=True)
    await web.supervision.running(job["id"], container=web.container)
    path = f"/job/{job['id']}/"
    _, headers = seen(await web.yard.call("GET", path, token=None, headers={"Authorization": "Basic eDp5"}))
    assert headers["authorization"] == "Basic eDp5"
    _, headers = seen(await web.yard.call("GET", path, token=READER))
    assert "authorization" not in headers
    old = "a-token-without-our-prefix-as-older-versions-made"
    await web.yard.ledger.submit(
        cmd.CreateToken(
            project="default", token_id=str(uuid4()), name="old", role=ADMIN, sha256=sha256_of(old)
        ),
        actor="test",
    )
    for value in (web.yard.tokens[READER], old):
        for said in (basic(value)["Authorization"], f"bearer {value}", f"Token {value}", value):
            headers = seen(await web.yard.call("GET", path, token=None, headers={"Authorization": said}))[1]
            assert "authorization" not in headers, said


async def test_a_job_that_is_not_there_or_does_not_answer(web: Web) -> None:
    waiting = await web.yard.submit()
    not_yet = await web.yard.call("GET", f"/job/{waiting['id']}/", token=READER)
    assert (not_yet.status, "while it is RUNNING" in not_yet.json["message"]) == (503, True)
    assert "Retry-After" in not_yet.headers
    closed = await web.path("GET", "/", port="-9999")
    assert (closed.status, "port 9999" in closed.json["message"]) == (503, True)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        headers = {"Authorization": f"Bearer {web.yard.tokens[READER]}"}
        await web.yard.http.ws_connect(f"{web.yard.url}/job/{web.job}-9999/", headers=headers)
    assert refused.value.status == 503
    for name in ("x", str(uuid4()), f"{web.job}-0", f"{web.job}-65536", f"{web.job}-x", web.job[:-1]):
        answer = await web.yard.call("GET", f"/job/{name}/", token=READER)
        assert (answer.status, answer.json["code"]) == (404, "not-found"), name
        host = {"Host": f"{name}.job.localhost"}
        assert (await web.yard.call("GET", "/v1/me", token=READER, headers=host)).status == 404
    assert (
        await web.yard.call("GET", "/v1/me", token=READER, headers={"Host": "job.localhost"})
    ).status == 200


async def test_an_address_that_now_is_another_jobs_is_never_reached(web: Web) -> None:
    """The job's row says RUNNING, but its container has ended and its address is free for the next one."""
    assert (await web.path("GET", "/")).status == 200
    await web.lab.engine.stop(web.container, 0)
    other = await served(web.lab, 8080)
    found = await web.lab.engine.find(other)
    assert found is not None

    async def refused() -> bool:
        return (await web.path("GET", "/")).status == 503

    await until(refused)
    assert not await _ever(lambda: web.path("GET", "/"), 200)


async def _ever(ask: Any, status: int) -> bool:
    return any([(await ask()).status == status for _ in range(20)])


async def test_nothing_but_a_path_follows_the_jobs_authority(web: Web) -> None:
    """A target in another form must not make another address of it."""
    host = f"{web.job}.job.localhost:{web.port}"
    token = web.yard.tokens[READER]
    for target in ("@127.0.0.1:1/", "http://127.0.0.1:1/x", "//127.0.0.1:1/x", ":1/x", "*"):
        request = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n"
        for answer in await web.yard.talk(request.encode()):
            assert answer.status in (200, 400, 404), (target, answer.raw)
            if answer.status == 200:
                assert answer.json["port"] == 8080
    both = (
        f"POST / HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nContent-Length: 5\r\n"
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    )
    assert [answer.status for answer in await web.yard.talk(both.encode())] == [400]


async def test_curl_through_both_ways(web: Web) -> None:
    token = web.yard.tokens[READER]
    for url in (f"http://{web.job}.job.localhost:{web.port}/x", f"{web.yard.url}/job/{web.job}/x"):
        process = await asyncio.create_subprocess_exec(
            "curl", "--silent", "--fail", "--user", f"me:{token}", url, stdout=PIPE
        )
        out, _ = await process.communicate()
        assert process.returncode == 0
        assert json.loads(out)["path"] == "/x"

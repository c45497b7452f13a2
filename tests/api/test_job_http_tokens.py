"""Tokens on the way to a job: the job never sees one, and one that was revoked meanwhile lets nobody in."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from service.api.auth import MOST_CHARS, Tokens
from service.api.handshake import SOCKET_TOKEN
from service.api.job_http import target
from service.errors import Unauthenticated
from tests.api.job_web import Web, served
from tests.api.yard import ADMIN, DEADLINE_S, READER, Supervision, Yard
from tests.supervisor.lab import Lab
from tests.support import logs


@pytest.fixture
async def web(yard: Yard, supervision: Supervision, lab: Lab) -> Web:
    container = await served(lab, 8080)
    job = await yard.submit()
    await supervision.running(job["id"], container=container)
    return Web(yard, supervision, lab, job["id"], container)


@pytest.fixture
async def open_job(web: Web) -> str:
    """The path of a job in the same container that is open to anybody."""
    job = await web.yard.submit(unsecureHttp=True)
    await web.supervision.running(job["id"], container=web.container)
    return f"/job/{job['id']}/"


def carried(value: str) -> str:
    return SOCKET_TOKEN + base64.urlsafe_b64encode(value.encode()).decode().rstrip("=")


async def test_a_token_among_the_sub_protocols_does_not_reach_the_job(web: Web, open_job: str) -> None:
    mine = carried(web.yard.tokens[READER])
    for path in (f"/job/{web.job}/ws", f"{open_job}ws"):
        for offered in ((mine, "echo.test", "other"), (mine,)):
            with logs.set_up() as said:
                async with web.yard.http.ws_connect(web.yard.url + path, protocols=offered) as socket:
                    await socket.send_str("headers")
                    seen = {name.lower(): value for name, value in json.loads(await socket.receive_str())}
            assert SOCKET_TOKEN not in json.dumps(seen)
            assert seen.get("sec-websocket-protocol", "") == ",".join(offered[1:])
            assert socket.protocol == ("echo.test" if offered[1:] else None)
            assert mine not in said.getvalue()


async def test_nor_does_it_in_a_request_that_is_no_socket(web: Web, open_job: str) -> None:
    """An intermediary that knows no sockets takes the Upgrade away, and leaves the rest."""
    mine = carried(web.yard.tokens[READER])
    for sent, passed in ((f"a, {mine},b", "a, b"), (mine, None)):
        answer = await web.yard.call("GET", open_job, token=None, headers={"Sec-WebSocket-Protocol": sent})
        seen = {name.lower(): value for name, value in answer.json["headers"]}
        assert seen.get("sec-websocket-protocol") == passed


@pytest.mark.parametrize("how", ["bearer", "basic", "socket"])
async def test_a_token_revoked_on_the_way_lets_nobody_in(
    web: Web, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    token_id = await web.yard.token("ci", READER)
    value = web.yard.tokens["ci"]
    find = target.find

    async def overtaken(*given: Any) -> target.Target:
        found = await find(*given)
        assert (await web.yard.call("DELETE", f"/v1/token/{token_id}", token=ADMIN)).status == 204
        return found

    monkeypatch.setattr(target, "find", overtaken)
    basic = "Basic " + base64.b64encode(f"me:{value}".encode()).decode()
    headers = {"Authorization": basic if how == "basic" else f"Bearer {value}"}
    if how == "socket":
        headers |= {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
                    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}  # fmt: skip
    async with asyncio.timeout(DEADLINE_S):
        answer = await web.path("GET", "/events", token=None, headers=headers)
    assert answer.status == 401
    assert any(each.startswith("Basic ") for each in answer.headers.getall("WWW-Authenticate"))


async def test_what_an_open_job_is_sent_costs_few_looks(
    web: Web, open_job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []

    async def counted(_tokens: Tokens, value: str) -> Any:
        looks.append(value)
        raise Unauthenticated("unknown")

    monkeypatch.setattr(Tokens, "of_value", counted)
    digest = 'Digest username="me", realm="r", nonce="n", uri="/", qop=auth, nc=1, cnonce="c", response="x"'
    many = "Basic " + base64.b64encode(b":".join(b"%d" % number for number in range(1000))).decode()
    long = "Bearer " + "x" * (MOST_CHARS + 1)
    for said, passed, most in ((digest, digest, target.MOST_WORDS), (many, None, 0), (long, long, 1)):
        looks.clear()
        answer = await web.yard.call("GET", open_job, token=None, headers={"Authorization": said})
        seen = {name.lower(): value for name, value in answer.json["headers"]}
        assert seen.get("authorization") == passed
        assert len(looks) <= most, said[:40]

"""Large answers: they count as long as their client has not taken them."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from service.api import reads
from service.api.call import SERVICE
from service.api.sent import LARGE_BYTES, TOO_MUCH
from service.domain import commands as cmd
from tests.api.yard import ADMIN, READER, SPEC, Yard, furnish, opened
from tests.support.waiting import until, until_no_months_end

#: Their list is larger than what the kernel takes for a client.
JOBS = 110


@pytest.fixture
async def yard(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Yard]:
    """Jobs whose list is of some megabytes; a token may ask twice at once."""
    monkeypatch.setattr(reads, "MOST_BYTES", 2**40)
    await until_no_months_end()
    async with opened(database, tmp_path, {}, token_requests=2) as made:
        await furnish(made.ledger)
        for role in (ADMIN, READER):
            await made.token(role, role)
        await made.token("other", READER, project="other")
        await made.ledger.submit(cmd.SetQuota(project="default", cpu=JOBS, gpu=0), actor="test")
        for _ in range(JOBS):
            spec = {**SPEC, "command": ["\x01" * 1_600] * 6, "resources": {"cpu": 1}}
            answer = await made.call("POST", "/v1/job", spec, token=ADMIN)
            assert answer.status == 200, answer.raw
        yield made


def asking(yard: Yard, path: str, token: str = READER, more: str = "") -> socket.socket:
    """A client that takes nothing of its answer."""
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    host, _, port = yard.url.removeprefix("http://").partition(":")
    line.connect((host, int(port)))
    head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {yard.tokens[token]}\r\n{more}\r\n"
    line.sendall(head.encode())
    return line


async def test_an_answer_counts_until_it_was_taken(yard: Yard) -> None:
    held = yard.app[SERVICE].parts.held
    whole = await yard.call("GET", "/v1/job?size=500", token=READER)
    assert whole.status == 200 and len(whole.raw) > 6_000_000
    assert whole.headers["Content-Length"] == str(len(whole.raw))
    assert len(json.loads(whole.raw)["items"]) == JOBS
    lines = [await asyncio.to_thread(asking, yard, "/v1/job?size=500") for _ in range(2)]
    await until(lambda: held.bytes >= 2 * len(whole.raw))
    refused = await yard.call("GET", "/v1/me", token=READER)
    assert (refused.status, refused.json["code"]) == (429, "too-many-requests")
    assert (await yard.call("GET", "/v1/me", token="other")).status == 200
    for line in lines:
        line.close()

    async def free() -> bool:
        return held.bytes == 0 and (await yard.call("GET", "/v1/me", token=READER)).status == 200

    await until(free)


async def test_who_has_most_to_take_is_cut_off_and_others_get_theirs(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = yard.app[SERVICE].parts.held
    size = len((await yard.call("GET", "/v1/job?size=500", token=READER)).raw)
    monkeypatch.setattr(held, "_most", size + size // 2)
    with capture_logs() as lines:
        first = await asyncio.to_thread(asking, yard, "/v1/job?size=500")
        await until(lambda: held.bytes >= size)
        second = await asyncio.to_thread(asking, yard, "/v1/job?size=500")
        await until(lambda: [line.get("cut") for line in lines].count(TOO_MUCH) == 1)
        await until(lambda: held.bytes <= size)
    for line in (first, second):
        line.close()


async def test_heads_and_public_answers_are_as_before(yard: Yard) -> None:
    head = await yard.call("HEAD", "/v1/job?size=500", token=READER)
    assert (head.status, head.raw) == (200, b"")
    assert int(head.headers["Content-Length"]) > LARGE_BYTES
    document = await yard.call("GET", "/v1/openapi.json", token=None)
    assert document.status == 200 and len(document.raw) > LARGE_BYTES
    assert document.headers["Content-Length"] == str(len(document.raw))
    assert "paths" in document.json
    assert yard.app[SERVICE].parts.held.bytes == 0

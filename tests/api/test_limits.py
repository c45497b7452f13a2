"""One who asks too much is refused at once, with the time to come back, and nobody else notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from service.api import auth, body, door
from service.api.call import SERVICE
from service.domain.directory import Token
from tests.api.yard import OPERATOR, READER, SPEC, Yard, opened
from tests.support.waiting import until


async def test_a_token_beyond_its_rate_is_told_when_to_come_back(yard: Yard, tmp_path: Path) -> None:
    async with opened(yard.database, tmp_path, yard.tokens, token_rate=1.0) as bounded:
        answers = [await bounded.call("GET", "/v1/me") for _ in range(40)]
        refused = [each for each in answers if each.status == 429]
        assert refused, "forty in a row are more than one a second"
        assert [each.status for each in answers[:2]] == [200] * 2
        assert {each.headers["Retry-After"] for each in refused} == {"1"}
        assert {each.json["code"] for each in refused} == {"too-many-requests"}
        assert "more than 1 times a second; try again after 1 s" in refused[0].json["message"]
        assert (await bounded.call("GET", "/v1/me", token=READER)).status == 200
        assert (await bounded.call("GET", "/healthz", token=None)).status == 200


async def test_what_is_refused_left_nothing(yard: Yard, tmp_path: Path) -> None:
    async with opened(yard.database, tmp_path, yard.tokens, token_rate=1.0) as bounded:
        before = await bounded.head()
        answers = [await bounded.call("POST", "/v1/job", SPEC) for _ in range(20)]
        taken = [each for each in answers if each.status == 200]
        assert {each.status for each in answers} == {200, 429}
        assert await bounded.head() == before + len(taken)


async def test_requests_that_wait_for_their_bodies_hold_the_places_of_their_token_alone(
    yard: Yard, tmp_path: Path
) -> None:
    async with (
        opened(yard.database, tmp_path, yard.tokens, token_requests=2) as bounded,
        AsyncExitStack() as held,
    ):
        for _ in range(2):
            await held.enter_async_context(_half_a_post(bounded))
        await until(lambda: _working(bounded) == 2, what="both places taken")
        refused = await bounded.call("GET", "/v1/me")
        assert "has 2 requests at once, and may have 2; try again after 1 s" in refused.json["message"]
        assert (await bounded.call("GET", "/v1/me", token=READER)).status == 200
        await held.aclose()
        await until(lambda: _let_in(bounded), what="a place given back")


async def test_streams_have_places_of_their_own(yard: Yard, tmp_path: Path) -> None:
    async with opened(yard.database, tmp_path, yard.tokens, token_streams=1) as bounded:
        headers = {"Authorization": f"Bearer {yard.tokens[OPERATOR]}"}
        url = f"{bounded.url}/v1/events?after=now"
        async with bounded.http.get(url, headers=headers | {"Accept": "text/event-stream"}) as stream:
            assert stream.status == 200
            for accept in ("text/event-stream", "text/html, TEXT/Event-Stream;q=0.5"):
                async with bounded.http.get(url, headers=headers | {"Accept": accept}) as second:
                    assert (second.status, (await second.json())["code"]) == (429, "too-many-requests")
            async with bounded.http.get(url, headers=headers | {"Accept": "text/event-streams"}) as page:
                assert page.status == 200, "none of those"
            assert (await bounded.call("GET", "/v1/me")).status == 200
        await until(lambda: _opens(bounded, url, headers), what="the stream's place given back")


@pytest.mark.parametrize("said", [{"Accept": "text/event-stream"}, {"Upgrade": "websocket"}])
async def test_who_says_that_it_streams_where_nothing_does_takes_no_place_of_streams(
    yard: Yard, tmp_path: Path, said: dict[str, str]
) -> None:
    async with (
        opened(yard.database, tmp_path, yard.tokens, token_requests=1) as bounded,
        _half_a_post(bounded),
    ):
        await until(lambda: _working(bounded) == 1, what="the place taken")
        for method, path in (("GET", "/v1/me?follow=true"), ("POST", "/v1/job")):
            assert (await bounded.call(method, path, headers=said)).status == 429


async def test_one_connection_too_many_is_told_so(yard: Yard, tmp_path: Path) -> None:
    async with opened(yard.database, tmp_path, yard.tokens, max_connections=16) as bounded:
        host, _, port = bounded.url.removeprefix("http://").partition(":")
        async with AsyncExitStack() as held:
            ends = []  # one that nobody holds any more is closed
            for _ in range(16):
                reader, writer = await asyncio.open_connection(host, int(port))
                ends.append((reader, writer))
                held.callback(writer.transport.abort)
            (turned_away,) = await bounded.talk(says_the_end=False)
            assert (turned_away.status, turned_away.headers["Retry-After"]) == (503, "1")
            assert turned_away.json["message"] == "the service has 16 connections open already"
            assert turned_away.headers["Server"] == "jobyard"
        await until(lambda: bounded.connections() == 0, what="room again")
        assert await _let_in(bounded)
        metrics = (await bounded.call("GET", "/metrics")).raw.decode()
        assert "jobyard_api_connections_turned_away_total 1.0" in metrics


@pytest.mark.parametrize("before", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"])
async def test_a_head_that_comes_byte_by_byte_has_the_time_of_one_that_does_not_come(
    yard: Yard, tmp_path: Path, before: bytes
) -> None:
    """Each byte would be a sign of life; on a new connection as on one that was answered already."""
    async with (
        opened(yard.database, tmp_path, yard.tokens, keep_alive_s=0.3) as bounded,
        _end(bounded) as end,
    ):
        end.write(before)
        trickling = asyncio.create_task(_trickled(end, b"GET /healthz HTTP/1.1\r\nX-Slow: ", b"x"))
        await until(lambda: bounded.connections() == 1, what="the connection made")
        await until(lambda: bounded.connections() == 0, what="the connection let go")
        trickling.cancel()


async def test_a_body_that_comes_byte_by_byte_has_its_time_and_gives_its_place_back(
    yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body, "READ_TIMEOUT_S", 0.3)
    async with opened(yard.database, tmp_path, yard.tokens, token_requests=1) as bounded:
        async with _end(bounded) as end:
            trickling = asyncio.create_task(_trickled(end, _post(bounded, 10_000), b" "))
            await until(lambda: _working(bounded) == 1, what="its token's one place taken")
            await until(lambda: _working(bounded) == 0, what="the place given back")
            assert await _let_in(bounded)
            trickling.cancel()
        (answer,) = await bounded.talk(_post(bounded, 10_000) + b"{", says_the_end=False)
        assert answer.status == 408
        assert "body: it did not arrive within" in answer.json["message"]


async def test_a_client_that_takes_nothing_is_let_go(
    yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answers would wait in our memory for as long as it likes: its kernel says that it is there."""
    monkeypatch.setattr(door, "TAKES_NOTHING_S", 0.3)
    async with opened(yard.database, tmp_path, yard.tokens) as bounded:
        host, _, port = bounded.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        asked = b"GET /v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
        gone = asyncio.create_task(_sent(writer, asked * 2000))
        try:
            await until(lambda: bounded.connections() == 1, what="the connection made")
            await until(lambda: bounded.connections() == 0, what="the connection let go")
        finally:
            gone.cancel()
            writer.transport.abort()
        del reader


async def test_an_unknown_token_is_looked_up_once_and_guesses_wait_for_each_other(
    yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "KEPT_S", 3600.0)
    async with opened(yard.database, tmp_path, yard.tokens) as bounded:
        asked: list[str] = []
        at_once = most_at_once = 0
        look = bounded.ledger.token_by_hash

        async def counted(sha256: str) -> Token | None:
            nonlocal at_once, most_at_once
            asked.append(sha256)
            at_once += 1
            most_at_once = max(most_at_once, at_once)
            try:
                return await look(sha256)
            finally:
                at_once -= 1

        monkeypatch.setattr(bounded.ledger, "token_by_hash", counted)
        for _ in range(20):
            assert (await bounded.call("GET", "/v1/me", token="jy_wrong")).status == 401
        assert len(asked) == 1
        guesses = [bounded.call("GET", "/v1/me", token=f"jy_{number}") for number in range(100)]
        assert {each.status for each in await asyncio.gather(*guesses)} == {401}
        assert (len(asked), most_at_once) == (101, auth.LOOKUPS)
        for token in ("jy_other", READER):
            asked.clear()
            same = [bounded.call("GET", "/v1/me", token=token) for _ in range(100)]
            assert len({each.status for each in await asyncio.gather(*same)}) == 1
            assert len(asked) <= auth.LOOKUPS


@asynccontextmanager
async def _half_a_post(yard: Yard) -> AsyncIterator[None]:
    """A request whose body does not come."""
    async with _end(yard) as end:
        end.write(_post(yard, 99) + b"{")
        yield


@asynccontextmanager
async def _end(yard: Yard) -> AsyncIterator[asyncio.StreamWriter]:
    """A connection's other end, to say anything on; what it hears is thrown away."""
    host, _, port = yard.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    hearing = asyncio.create_task(reader.read())
    try:
        yield writer
    finally:
        writer.transport.abort()
        await asyncio.wait([hearing])


def _post(yard: Yard, size: int) -> bytes:
    """The head of a job's submission."""
    return (
        b"POST /v1/job HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        + f"Authorization: Bearer {yard.tokens[OPERATOR]}\r\nContent-Length: {size}\r\n\r\n".encode()
    )


async def _trickled(end: asyncio.StreamWriter, first: bytes, again: bytes) -> None:
    """More of it all the time, but never much."""
    end.write(first)
    while not end.transport.is_closing():
        end.write(again)
        await asyncio.sleep(0.01)


async def _sent(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


def _working(yard: Yard) -> int:
    """Requests that hold a place. To ask would take one as well, maybe from the request that is to come."""
    return sum(use.working for use in yard.app[SERVICE].limits._uses.values())


async def _let_in(yard: Yard) -> bool:
    return (await yard.call("GET", "/v1/me")).status == 200


async def _opens(yard: Yard, url: str, headers: dict[str, str]) -> bool:
    async with yard.http.get(url, headers=headers | {"Accept": "text/event-stream"}) as again:
        return again.status == 200

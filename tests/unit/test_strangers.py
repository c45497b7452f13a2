"""Strangers' HTTP servers, as they are heard: real ones on loopback, and a loop as the service has it."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
import uvloop
from aiobotocore.httpsession import AIOHTTPSession
from aiohttp.base_protocol import BaseProtocol
from aiohttp.client_proto import ResponseHandler

from service.outward.addresses import OWN_NETWORKS
from service.outward.strangers import MOST_INTERIM, Connector, Heard, NoAnswer
from service.paced import FULL_BYTES, rest
from service.supervisor.data.model import StoreAccess, Timing
from service.supervisor.data.s3 import client
from tests.support.flood import flooding
from tests.support.waiting import DEADLINE_S, until

INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
FINE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@asynccontextmanager
async def saying(*words: bytes) -> AsyncIterator[str]:
    """A server that says a word for each head it is sent; its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for word in words:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(word)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


@asynccontextmanager
async def asking() -> AsyncIterator[aiohttp.ClientSession]:
    connector = Connector(keepalive_timeout=10 * DEADLINE_S)
    async with asyncio.timeout(DEADLINE_S), aiohttp.ClientSession(connector=connector) as http:
        yield http


async def test_as_many_interim_answers_as_anybody_needs_are_taken_for_each_request() -> None:
    async with saying(*[INTERIM * MOST_INTERIM + FINE] * 3) as url, asking() as http:
        for _ in range(3):
            async with http.get(url) as answer:
                assert (answer.status, await answer.read()) == (200, b"ok")


async def test_one_more_is_no_answer() -> None:
    async with saying(INTERIM * (MOST_INTERIM + 1) + FINE) as url, asking() as http:
        with pytest.raises(NoAnswer, match="more than 16 interim"):
            await http.get(url)


async def test_a_body_is_sent_when_it_is_asked_for() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await reader.readexactly(3)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n" + body)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server, asking() as http:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with http.post(url, data=b"abc", expect100=True) as answer:
            assert await answer.read() == b"abc"


async def interim_for_ever() -> None:
    async with flooding("interim") as flood, asking() as http:
        with pytest.raises(NoAnswer, match="interim"):
            await http.get(f"http://127.0.0.1:{flood.port}/")
        await until(lambda: flood.left == 1)


def test_a_flood_of_interim_answers_ends_with_the_connection() -> None:
    uvloop.run(interim_for_ever())


async def test_what_comes_after_an_answer_is_not_kept_for_the_next_request() -> None:
    kept, left = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(FINE)
        await kept.wait()
        try:
            while True:
                writer.write(FINE * 1000)
                await writer.drain()
        except ConnectionError:
            left.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server, asking() as http:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with http.get(url) as answer:
            assert await answer.read() == b"ok"
        kept.set()
        await left.wait()


async def test_a_large_body_comes_whole_and_by_one_read_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    rested: list[int] = []

    def spied(protocol: BaseProtocol, data: bytes) -> None:
        rested.append(len(data))
        rest(protocol, data)

    monkeypatch.setattr("service.outward.strangers.rest", spied)
    body = bytes(range(256)) * (32 * 4096)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with saying(INTERIM + head + body) as url, asking() as http, http.get(url) as answer:
        assert await answer.read() == body
    assert sum(rested) > len(body)


class Counted(BaseProtocol):
    """Which turns of the loop read how often."""

    def __init__(self) -> None:
        super().__init__(asyncio.get_running_loop())
        self.turn = 0
        self.full: Counter[int] = Counter()
        self._next()

    def _next(self) -> None:
        self.turn += 1
        self._loop.call_soon(self._next)

    def data_received(self, data: bytes) -> None:
        self.full[self.turn] += len(data) >= FULL_BYTES
        rest(self, data)


async def full_reads() -> None:
    async with flooding("interim") as flood:
        loop = asyncio.get_running_loop()
        _, counted = await loop.create_connection(Counted, "127.0.0.1", flood.port)
        assert counted.transport is not None
        counted.transport.write(b"\r\n\r\n")
        await until(lambda: counted.full.total() > 200)
        counted.transport.abort()
        assert max(counted.full.values()) == 1


def test_of_a_flood_one_read_is_taken_a_turn() -> None:
    uvloop.run(full_reads())


async def test_what_aiohttp_calls_its_own() -> None:
    """They are its private names, and of aiobotocore's client, that are built on."""
    connector = Connector()
    made = connector._factory()
    assert isinstance(made, Heard)
    assert (made._reading_paused, made._buffer_paused, made.transport) == (False, False, None)
    await connector.close()
    assert all(
        hasattr(ResponseHandler, name) for name in ("data_received", "feed_data", "set_response_params")
    )
    assert list(inspect.signature(AIOHTTPSession._create_connector).parameters) == ["self", "proxy_url"]
    theirs = client._Session(verify=False)._create_connector(None)
    assert isinstance(theirs._factory(), Heard)
    await theirs.close()
    access = StoreAccess("http://127.0.0.1:9", "us-east-1", "a", "b")
    async with client.connected(access, Timing(), OWN_NETWORKS) as (_, bodies):
        assert isinstance(bodies._session.connector, Connector)

"""A store that sends, or takes, byte by byte is as good as silent: nothing of a node waits for it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from service.errors import StoreRefused, Unavailable
from service.supervisor.data import Source, Store, StoreAccess, Timing
from service.supervisor.data.model import CHUNK_BYTES, LEAST_BYTES
from service.supervisor.data.s3.bodies import hashed
from tests.data.canned import Canned, serving
from tests.data.dripping import DRIP_S, ETAG, Dripping
from tests.data.sync import pulled
from tests.support.waiting import DEADLINE_S

HASTY = Timing(progress_s=0.3, attempts=2, backoff_s=0.01)
LARGE = bytes(2 * CHUNK_BYTES)


@asynccontextmanager
async def opened(canned: Canned, timing: Timing = HASTY) -> AsyncIterator[Store]:
    async with serving(canned) as access, asyncio.timeout(DEADLINE_S), Store.open(access, timing) as store:
        yield store


@pytest.mark.parametrize("body", [LARGE, bytes(CHUNK_BYTES), bytes(1000)], ids=["in parts", "large", "small"])
async def test_an_object_that_trickles_is_given_up_and_said_so(volume: Path, body: bytes) -> None:
    """In parts it is taken up where it broke off, for as long as it gets on: some bytes are no getting on."""
    least = min(LEAST_BYTES, len(body))
    async with opened(Dripping(body)) as store:
        with pytest.raises(
            Unavailable, match=rf"object x in box: the store sent fewer than {least} bytes in 0\.3 s"
        ):
            await pulled(store, Source("box"), volume)
    assert not (volume / "x").exists()


async def test_a_download_that_trickles_is_given_up() -> None:
    async with opened(Dripping(LARGE)) as store, store.download("box", "x") as download:
        with pytest.raises(Unavailable, match="the store sent fewer than 65536 bytes"):
            async for _ in download.stream:
                pass


async def test_one_that_sends_some_bytes_for_each_request_is_given_up(volume: Path) -> None:
    """In order, as if they were all that was asked for."""
    canned = Canned(["x"], LARGE, ETAG)
    canned.breaks_after, canned.says_so = 10, True
    async with opened(canned) as store:
        with pytest.raises(Unavailable, match="the store sent 10 of the bytes that were asked for"):
            await pulled(store, Source("box"), volume)


async def test_what_comes_slowly_and_gets_on_is_taken(volume: Path) -> None:
    """All of it takes longer than the silence that is allowed."""
    body = os.urandom(10 * LEAST_BYTES + 1)
    patient = Timing(progress_s=1.5, attempts=1)
    async with opened(Dripping(body, step=LEAST_BYTES, pause_s=0.2), patient) as store:
        await pulled(store, Source("box"), volume)
    assert (volume / "x").read_bytes() == body


class Stepwise(Dripping):
    """Goes on when it is told to."""

    def __init__(self) -> None:
        super().__init__(bytes(20))
        self.told = asyncio.Event()

    async def pause(self) -> None:
        await self.told.wait()


async def test_the_pace_of_the_reader_is_not_the_stores() -> None:
    canned, came = Stepwise(), 0
    async with opened(canned) as store, store.download("box", "x") as download:
        async for chunk in download.stream:
            came += len(chunk)
            if not canned.told.is_set():
                await asyncio.sleep(HASTY.progress_s)
                asyncio.get_running_loop().call_soon(canned.told.set)
    assert came == 20


async def test_a_listing_that_trickles_has_the_time_of_a_call(volume: Path) -> None:
    hasty = Timing(call_s=0.3, attempts=2, backoff_s=0.01)
    async with opened(Dripping(b"hello", lists=True), hasty) as store:
        with pytest.raises(Unavailable, match="container box: the store did not answer in time"):
            await pulled(store, Source("box"), volume)


class Circling(Canned):
    """Every page leads on to the second one."""

    def _listing(self, page: int) -> str:
        return super()._listing(1)


async def test_a_listing_that_leads_back_to_itself_is_refused(volume: Path) -> None:
    canned = Circling([])
    canned.pages = 2
    async with opened(canned) as store:
        with pytest.raises(
            StoreRefused, match="container box: the store's listing leads back to where it was"
        ):
            await pulled(store, Source("box"), volume)
    assert len(canned.asked) == 2


@asynccontextmanager
async def taking(read: Callable[[asyncio.StreamReader], AsyncIterator[None]]) -> AsyncIterator[StoreAccess]:
    """A store that takes a body as `read` does, and never answers. The kernel keeps little of it for him."""

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for _ in read(reader):
            await asyncio.sleep(DRIP_S)
        writer.close()

    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    listening.bind(("127.0.0.1", 0))
    server = await asyncio.start_server(served, sock=listening)
    try:
        yield StoreAccess(
            f"http://127.0.0.1:{listening.getsockname()[1]}", "us-east-1", "k" * 16, "topsecret" * 3
        )
    finally:
        server.close()


async def test_a_store_that_takes_byte_by_byte_is_given_up_and_said_so() -> None:
    async def dripping(reader: asyncio.StreamReader) -> AsyncIterator[None]:
        while await reader.read(10):
            yield

    body = hashed(bytes(CHUNK_BYTES), signed=True)
    async with taking(dripping) as access, asyncio.timeout(DEADLINE_S), Store.open(access, HASTY) as store:
        with pytest.raises(
            Unavailable, match=r"object x in box: the store took fewer than 262144 bytes in 0\.3 s"
        ):
            await store.put("box", "x", body)


async def test_a_store_that_takes_all_and_never_answers_has_not_answered() -> None:
    async def greedy(reader: asyncio.StreamReader) -> AsyncIterator[None]:
        while await reader.read(1 << 20):
            pass
        yield

    for size in (10, 1 << 20):
        async with taking(greedy) as access, asyncio.timeout(DEADLINE_S), Store.open(access, HASTY) as store:
            with pytest.raises(Unavailable, match="the store did not answer in time"):
                await store.put("box", "x", hashed(bytes(size), signed=True))

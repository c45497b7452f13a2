"""Who sends as fast as he can, without end, to a real API process: everybody else's requests are answered."""

from __future__ import annotations

import asyncio
import base64
import socket
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import service.app
from service.ledger.ledger import Ledger
from tests.api.process import serving
from tests.api.yard import ADMIN, MASTER, OPERATOR, READER, Supervision, furnish, make_token
from tests.support.flood import flooding
from tests.support.waiting import DEADLINE_S, until

ANSWERS = 40
SOCKET = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
          "Sec-WebSocket-Key: MTIzNDU2Nzg5MDEyMzQ1Ng==")  # fmt: skip
CHUNKED = ("Transfer-Encoding: chunked",)
#: What a client floods with: masked with nought.
PING, MESSAGE, CHUNK = b"\x89\x80" + bytes(4), b"\x82\x80" + bytes(4), b"1\r\na\r\n"


async def _here(_addresses: object, _container: str) -> str:
    return "127.0.0.1"


def jobs_are_here() -> None:
    """What listens on this machine is a job's: no container is needed for a port."""
    service.app.LiveAddresses.ip_of = _here  # type: ignore[method-assign, assignment]


@dataclass
class World:
    """An API process, its ledger, and tokens: of an operator, a reader, an administrator, and a neighbour."""

    url: str
    ledger: Ledger
    http: aiohttp.ClientSession
    tokens: dict[str, str]
    ids: dict[str, str]

    async def ask(self, method: str, path: str, token: str, **more: Any) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.tokens[token]}"}
        async with self.http.request(method, self.url + path, headers=headers, **more) as answer:
            return answer.status, await answer.json() if answer.status != 204 else None

    async def neighbour(self) -> None:
        """Another project is answered, one request after the other."""
        async with asyncio.timeout(DEADLINE_S):
            for _ in range(ANSWERS):
                assert (await self.ask("GET", "/v1/quota", "neighbour"))[0] == 200

    async def is_well(self, flood: Callable[[], bool], *, until_revoked: str) -> None:
        """While a flood goes on, and until the token that it came by is revoked, which ends it."""
        await self.neighbour()
        assert flood()
        path = f"/v1/token/{self.ids[until_revoked]}"
        async with asyncio.timeout(DEADLINE_S):
            assert (await self.ask("DELETE", path, ADMIN))[0] == 204
        await until(lambda: not flood())
        await self.neighbour()

    def head(self, method: str, path: str, token: str, *lines: str) -> bytes:
        """Of a request that is written by hand."""
        there = self.url.removeprefix("http://")
        said = (f"{method} {path} HTTP/1.1", f"Host: {there}", f"Authorization: Bearer {self.tokens[token]}")
        return "\r\n".join((*said, *lines, "", "")).encode()

    async def job(self, port: int) -> str:
        spec = {"image": "busybox", "resources": {"cpu": 1}, "defaultHttpPort": port}
        status, made = await self.ask("POST", "/v1/job", OPERATOR, json=spec)
        assert status == 200, made
        theirs: Any = self  # it needs no more of a yard than its ledger
        supervision = Supervision(theirs)
        await supervision.lease()
        await supervision.running(made["id"])
        return str(made["id"])


@pytest.fixture
async def world(database: str, tmp_path: Path) -> AsyncIterator[World]:
    key = {"JOBYARD_MASTER_KEY": base64.b64encode(b"m" * 32).decode()}
    async with (
        Ledger.open(database, MASTER) as ledger,
        serving(database, tmp_path, key, jobs_are_here) as process,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
    ):
        await furnish(ledger)
        made = World(process.url, ledger, http, {}, {})
        for name in (ADMIN, OPERATOR, READER):
            made.tokens[name], made.ids[name] = await make_token(ledger, name, name)
        made.tokens["neighbour"], _ = await make_token(ledger, "neighbour", OPERATOR, project="other")
        yield made


async def test_a_job_that_answers_in_the_interim_for_ever_is_given_up(world: World) -> None:
    async with flooding("interim") as flood:
        job = await world.job(flood.port)
        for _ in range(3):
            async with asyncio.timeout(DEADLINE_S):
                status, said = await world.ask("GET", f"/job/{job}/", READER)
            assert (status, said["code"]) == (503, "unavailable"), said
        await until(lambda: flood.left == 3)
        await world.neighbour()


async def test_a_registry_that_answers_in_the_interim_for_ever_is_none(world: World) -> None:
    async with flooding("interim") as flood:
        body = {"url": f"http://127.0.0.1:{flood.port}", "username": "a", "password": "b"}
        async with asyncio.timeout(DEADLINE_S):
            status, said = await world.ask("POST", "/v1/registry", ADMIN, json=body)
        assert (status, said["field"]) == (400, "url") and "NoAnswer" in said["message"], said
        await until(lambda: flood.left == flood.begun == 1)
        await world.neighbour()


async def test_a_store_that_answers_in_the_interim_for_ever_is_none(world: World) -> None:
    async with flooding("interim") as flood:
        body = {
            "alias": "theirs",
            "type": "s3",
            "endpoint": f"http://127.0.0.1:{flood.port}",
            "owner": "customer",
            "credentials": {"s3": {"accessKey": "a", "secretKey": "b"}},
        }
        async with asyncio.timeout(DEADLINE_S):
            status, said = await world.ask("POST", "/v1/datastore", ADMIN, json=body)
        assert (status, said["code"]) == (503, "unavailable"), said
        await until(lambda: flood.left == flood.begun > 0)
        await world.neighbour()


@pytest.mark.parametrize("what", ["chunks", "messages", "pings"])
async def test_a_job_that_says_much_in_little_has_its_turn_and_no_more(world: World, what: str) -> None:
    async with flooding(what) as flood:
        job = await world.job(flood.port)
        host, _, port = world.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(world.head("GET", f"/job/{job}/", READER, *(() if what == "chunks" else SOCKET)))

        async def take() -> None:
            while await reader.read(65536):
                continue

        taking = asyncio.create_task(take())
        await until(lambda: flood.begun == 1)
        await world.is_well(lambda: flood.left == 0, until_revoked=READER)
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
        writer.transport.abort()


class Client:
    """One that floods, in a thread of its own, and takes what it is answered."""

    def __init__(self, url: str, head: bytes, piece: bytes) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        self._socket = socket.create_connection((host, int(port)))
        self._sent = (head, piece * (240_000 // len(piece)))
        self._thread = threading.Thread(target=self._flood)
        self._thread.start()

    @property
    def is_at_it(self) -> bool:
        return self._thread.is_alive()

    def _flood(self) -> None:
        head, piece = self._sent
        self._socket.sendall(head)
        try:
            while True:
                self._socket.sendall(piece)
                try:
                    if not self._socket.recv(1024**2, socket.MSG_DONTWAIT):
                        return
                except BlockingIOError:
                    continue
        except OSError:
            return

    def end(self) -> None:
        if self.is_at_it:
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()


@pytest.mark.parametrize("piece", [PING, MESSAGE], ids=["pings", "messages"])
async def test_a_client_of_events_that_never_stops_has_its_turn_and_no_more(
    world: World, piece: bytes
) -> None:
    client = Client(world.url, world.head("GET", "/v1/events?after=now", READER, *SOCKET), piece)
    try:
        await world.is_well(lambda: client.is_at_it, until_revoked=READER)
    finally:
        client.end()


@pytest.mark.parametrize("piece", [PING, MESSAGE, CHUNK], ids=["pings", "messages", "chunks"])
async def test_a_client_of_a_job_that_never_stops_has_its_turn_and_no_more(
    world: World, piece: bytes
) -> None:
    async with flooding("nothing") as flood:
        job = await world.job(flood.port)
        method, lines = ("POST", CHUNKED) if piece == CHUNK else ("GET", SOCKET)
        client = Client(world.url, world.head(method, f"/job/{job}/", READER, *lines), piece)
        try:
            await until(lambda: flood.begun == 1)
            await world.is_well(lambda: client.is_at_it, until_revoked=READER)
            await until(lambda: flood.left == 1)
        finally:
            client.end()

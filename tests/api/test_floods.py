"""Who sends as fast as he can, without end, to a real API process: everybody else's requests are answered."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
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

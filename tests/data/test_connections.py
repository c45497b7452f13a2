"""How a store is connected to: straight, and by as many connections as there is work."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from aiohttp import web

from service.supervisor.data import Source, Store, StoreAccess, Timing
from service.supervisor.data.model import ObjectInfo
from tests.data.canned import Canned, serving
from tests.data.conftest import QUICK
from tests.data.sync import fill, held


@pytest.mark.parametrize("named", ["http_proxy", "HTTP_PROXY", "all_proxy"])
async def test_the_proxy_of_the_environment_is_not_used(
    access: StoreAccess, source: Source, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(named, "http://127.0.0.1:9")
    async with Store.open(access, QUICK) as store:
        await fill(store, source, {"a": b"1"})
        assert await held(store, source) == {"a": b"1"}
        assert (await store.head(source.container, "a")).size == 1


class Gathering(Canned):
    """Answers nobody until so many ask at once."""

    def __init__(self, count: int) -> None:
        super().__init__([])
        self._all = asyncio.Barrier(count)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        await self._all.wait()
        return await super().answer(request)


async def test_nobody_waits_for_another_to_let_go_of_a_connection() -> None:
    """Or who waits for his turn would be told that the store does not answer."""
    many = 150
    async with serving(Gathering(2 * many)) as access, Store.open(access, Timing(attempts=1)) as store:
        info = ObjectInfo("x", 5, "", datetime.now(UTC))
        async with asyncio.timeout(30):
            await asyncio.gather(
                *(store.get("box", info) for _ in range(many)), *(store.head("box", "x") for _ in range(many))
            )

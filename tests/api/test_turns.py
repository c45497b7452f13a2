"""Work that a few may have at a time: one project's many requests do not keep others from theirs."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from service.api.call import SERVICE
from service.api.turns import MOST_OF_PROJECT, Turns
from service.ledger import bills
from tests.api.yard import READER, Answer, Yard
from tests.support.waiting import until

REPLAY = {"policy": "2021-05"}


async def replayed(yard: Yard, token: str = READER) -> Answer:
    return await yard.call("POST", "/v1/billing/replay", REPLAY, token=token)


async def test_who_has_enough_of_them_waiting_is_refused_and_others_come_next(yard: Yard) -> None:
    turns: Turns = yard.app[SERVICE].replays
    async with AsyncExitStack() as held:
        await held.enter_async_context(turns._free.turn("held"))
        mine = [asyncio.create_task(replayed(yard)) for _ in range(MOST_OF_PROJECT)]
        await until(lambda: turns.asked["default"] == MOST_OF_PROJECT)
        refused = await replayed(yard)
        assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
        assert "such requests of your project are under way" in refused.json["message"]
        theirs = asyncio.create_task(replayed(yard, "other"))
        await until(lambda: turns.asked["other"] == 1)
    assert [each.status for each in await asyncio.gather(*mine, theirs)] == [200] * (MOST_OF_PROJECT + 1)
    assert not turns.asked


async def test_nothing_is_done_for_who_has_left(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    turns: Turns = yard.app[SERVICE].replays
    headers = {"Authorization": f"Bearer {yard.tokens[READER]}"}
    assert (await replayed(yard)).status == 200
    before, replays = yard.connections(), bills.replayed
    done: list[int] = []

    def counted(pool: Any, *of: Any) -> Any:
        done.append(1)
        return replays(pool, *of)

    monkeypatch.setattr(bills, "replayed", counted)
    async with turns._free.turn("held"):
        async with aiohttp.ClientSession() as http:
            url = f"{yard.url}/v1/billing/replay"
            asking = asyncio.create_task(http.post(url, json=REPLAY, headers=headers))
            await until(lambda: turns.asked["default"] == 1)
            asking.cancel()
        await until(lambda: yard.connections() == before, what="the client gone")
    await until(lambda: not turns.asked)
    assert done == []
    assert (await replayed(yard)).status == 200
    assert done == [1]


@pytest.mark.parametrize("path", ["/v1/billing", "/v1/billing/statement"])
async def test_bills_wait_for_their_turn_as_well(yard: Yard, path: str) -> None:
    """They have a line for every run: one project's many questions keep nobody else from his answers."""
    turns: Turns = yard.app[SERVICE].bills
    async with AsyncExitStack() as held:
        for _ in range(2):
            await held.enter_async_context(turns._free.turn("held"))
        mine = [asyncio.create_task(yard.call("GET", path)) for _ in range(16)]
        await until(lambda: turns.asked["default"] == 16)
        assert (await yard.call("GET", path)).status == 503
        assert (await yard.call("GET", "/v1/quota")).status == 200
        theirs = asyncio.create_task(yard.call("GET", path, token="other"))
        await until(lambda: turns.asked["other"] == 1)
    assert [each.status for each in await asyncio.gather(*mine, theirs)] == [200] * 17
    assert not turns.asked

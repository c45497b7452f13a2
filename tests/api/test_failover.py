"""A failover to a standby that was behind, while clients follow: what was told of the lost future ends."""

from __future__ import annotations

import asyncio
from uuid import UUID

import aiohttp
import pytest

from service.api.call import SERVICE
from service.domain import commands as cmd
from service.ledger.ledger import Ledger
from tests.api.streams import DEADLINE_S, is_control, socket
from tests.api.yard import MASTER, OPERATOR, READER, Yard
from tests.ledger.standby import standby
from tests.support.waiting import until


def labelled(job: str, value: str) -> cmd.SetLabel:
    return cmd.SetLabel(project="default", job=UUID(job), name="n", value=value)


async def elsewhere(yard: Yard, *commands: cmd.Command) -> None:
    """What another process does."""
    async with Ledger.open(yard.database, MASTER) as ledger:
        for command in commands:
            await ledger.submit(command, actor="elsewhere")


async def _sees_nothing() -> None:
    pass


@pytest.mark.parametrize("since", [0, 5])
async def test_a_token_that_is_revoked_below_a_lost_position_has_nothing_open(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, since: int
) -> None:
    monkeypatch.setattr("service.api.auth.KEPT_S", 10_000.0)
    job = (await yard.submit())["id"]
    token_id = await yard.token("ci", READER)
    headers = {"Authorization": f"Bearer {yard.tokens['ci']}"}
    log = f"{yard.url}/v1/job/{job}/log?follow=true"
    async with standby(yard.database) as fail_over, yard.http.get(log, headers=headers) as response:
        for name in ("lost", "lost too"):
            await yard.token(name, READER)
        watch = yard.app[SERVICE].watch
        await watch.look()
        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(watch, "look", _sees_nothing)
            await fail_over()
            await elsewhere(
                yard,
                cmd.RevokeToken(project="default", token_id=token_id),
                *(labelled(job, f"{number}") for number in range(since)),
            )
        await watch.look()
        async with asyncio.timeout(DEADLINE_S):
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()

    async def refused() -> bool:
        return (await yard.call("GET", "/v1/me", token="ci")).status == 401

    await until(refused)


@pytest.mark.parametrize("since", [0, 1, 2, 5])
async def test_a_stream_ends_whose_events_were_lost(yard: Yard, since: int) -> None:
    """Those that came instead of them do not follow what it was sent, however many they are."""
    job = (await yard.submit())["id"]
    async with socket(yard) as stream:
        await stream.until_live()
        async with standby(yard.database) as fail_over:
            for value in ("a", "b"):
                await yard.ledger.submit(labelled(job, value), actor="test")
            last = (await stream.events(2))[-1]["id"]
            await fail_over()
            await elsewhere(yard, *(labelled(job, f"{number}") for number in range(since)))
            while (frame := await stream.frame()) is not None:
                assert is_control(frame)
            assert stream.socket.close_code == 1012
    head = await yard.head()
    query = f"/v1/events?after={last}"
    again = await yard.call("GET", query, token=OPERATOR)
    assert again.status == (400 if since < 2 else 200)
    async with socket(yard, f"?after={head - since}") as stream:
        found = [event["data"]["value"] for event in await stream.until_live()]
        assert found == [f"{number}" for number in range(since)]

"""Lists of objects in a store that has no end of them: how far they go, and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest
from aiohttp import web

from service.api import objects
from service.api.call import SERVICE
from service.app import STORE_TURN_S, OpenStores
from service.cli import client
from service.supervisor.data.model import Timing
from service.supervisor.data.s3.permits import Permits
from tests.api.yard import ADMIN, OPERATOR, READER, Yard
from tests.data.canned import Canned, serving
from tests.data.test_permits import busy
from tests.support.waiting import until

PATH = "/v1/datastore/s3/container/box/object"


@asynccontextmanager
async def stored(yard: Yard, canned: Canned) -> AsyncIterator[None]:
    """It is the project's store."""
    async with serving(canned) as access:
        keys = {"accessKey": access.access_key, "secretKey": access.secret_key}
        body = {"alias": "s3", "type": "s3", "endpoint": access.endpoint, "credentials": {"s3": keys}}
        assert (await yard.call("POST", "/v1/datastore?check=false", body)).status == 200
        yield


@pytest.fixture
async def endless(yard: Yard) -> AsyncIterator[Canned]:
    canned = Canned(["a", "b"])
    canned.pages = 10**9
    async with stored(yard, canned):
        yield canned


def followed(yard: Yard) -> int:
    return len(yard.app[SERVICE].watch._followers)


async def test_a_store_is_not_asked_any_more_when_the_client_has_left(
    yard: Yard, endless: Canned, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "FIND_S", 3600.0)
    headers = {"Authorization": f"Bearer {yard.tokens[READER]}"}
    async with aiohttp.ClientSession() as http:
        asking = asyncio.create_task(http.get(f"{yard.url}{PATH}?page=100", headers=headers))
        await until(lambda: len(endless.asked) > 3)
        asking.cancel()
    await until(lambda: not followed(yard), 20.0, what="the listing ended")
    asked = len(endless.asked)
    assert (await yard.call("GET", f"{PATH}?size=1")).status == 200
    assert len(endless.asked) == asked + 1


async def test_nor_when_the_token_was_revoked(yard: Yard, endless: Canned) -> None:
    await yard.token("passing", OPERATOR)
    asking = asyncio.create_task(yard.call("GET", f"{PATH}?page=100", token="passing"))
    await until(lambda: len(endless.asked) > 3)
    made = (await yard.call("GET", "/v1/token", token=ADMIN)).json["items"]
    (revoked,) = [each["id"] for each in made if each["spec"]["name"] == "passing"]
    assert (await yard.call("DELETE", f"/v1/token/{revoked}", token=ADMIN)).status == 204
    answer = await asking
    assert (answer.status, "the token was revoked or renewed" in answer.json["message"]) == (503, True)
    assert not followed(yard)


async def test_a_page_that_a_store_never_comes_to_is_given_up(
    yard: Yard, endless: Canned, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "FIND_S", 1.0)
    answer = await yard.call("GET", f"{PATH}?page=100")
    assert (answer.status, answer.json["code"]) == (503, "unavailable")
    assert "this page was not found among them; go on by `cursor`, or name a `prefix`" in answer.raw.decode()


class Unfinished(Canned):
    """A listing of which some pages come, and then an answer without an end."""

    whole_pages = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if len(self.asked) < self.whole_pages:
            return await super().answer(request)
        answer = web.StreamResponse()
        await answer.prepare(request)
        with suppress(ConnectionError):  # whoever asked has heard enough
            while True:
                await asyncio.sleep(0.02)
                await answer.write(b" ")
        return answer


NO_ANSWER = "the store did not finish its answer, or named no object of this page, within 1 s"


@pytest.mark.parametrize(
    ("query", "whole_pages", "said"),
    [
        ("", 0, NO_ANSWER),
        ("?page=2&size=2", 0, NO_ANSWER),
        ("?cursor=", 0, NO_ANSWER),
        ("?cursor=", 1, "the store listed 2 objects, and then did not finish its answer within 1 s"),
        ("?page=2&size=1", 1, "the store listed 2 objects, and then did not finish its answer within 1 s"),
        ("?page=2&size=2", 1, "the store listed 2 objects in 1 s, and this page was not found among them; "
         "go on by `cursor`, or name a `prefix`"),
    ],
)  # fmt: skip
async def test_a_store_that_does_not_finish_its_answer_is_what_is_told(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, query: str, whole_pages: int, said: str
) -> None:
    """No prefix and no cursor would help there."""
    monkeypatch.setattr(objects, "FIND_S", 1.0)
    canned = Unfinished(["a", "b"])
    canned.pages, canned.whole_pages = 10**9, whole_pages
    async with stored(yard, canned):
        answer = await yard.call("GET", f"{PATH}{query}")
    assert (answer.status, answer.json["message"]) == (503, said)


def test_the_commands_hear_of_a_store_that_is_given_up() -> None:
    """They would lose the race, say that the service does not answer, and ask again."""
    assert client.TRIED_S < objects.FIND_S < client.ANSWER_TIMEOUT_S - 10


def crowded(yard: Yard, canned: Canned, monkeypatch: pytest.MonkeyPatch, wait_s: float) -> Permits:
    """Of a yard whose store has so much on a page that it waits for its turn."""
    canned.keys, canned.pages = [f"{number:0100}" for number in range(500)], 1
    stores = yard.app[SERVICE].parts.stores
    assert isinstance(stores, OpenStores)
    permits = stores._shelf.permits
    monkeypatch.setattr(permits, "_wait_s", wait_s)
    return permits


async def test_large_pages_take_the_turns_of_their_project(
    yard: Yard, endless: Canned, monkeypatch: pytest.MonkeyPatch
) -> None:
    permits = crowded(yard, endless, monkeypatch, STORE_TURN_S)
    with busy():
        asking = [asyncio.create_task(yard.call("GET", PATH)) for _ in range(5)]
        await until(lambda: (permits.held, permits.waiting) == (2, 3))
        assert list(permits._rounds._lines) == ["default"]
    assert [len((await each).json["items"]) for each in asking] == [500] * 5
    assert (permits.held, permits._rounds._lines) == (0, {})


async def test_a_page_whose_turn_does_not_come_says_so(
    yard: Yard, endless: Canned, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Timing().attempts * STORE_TURN_S < objects.FIND_S
    permits = crowded(yard, endless, monkeypatch, 0.01)
    with permits.call("one") as one, permits.call("two") as two:
        monkeypatch.setattr(permits._rounds, "_at_once", 2)
        await one.take_permit()
        await two.take_permit()
        answer = await yard.call("GET", PATH)
    assert (answer.status, answer.json["code"]) == (503, "unavailable")
    assert "so many of these are being read that its turn did not come" in answer.json["message"]


async def test_a_key_is_no_longer_than_s3s(yard: Yard, endless: Canned) -> None:
    endless.keys, endless.pages = ["x" * 1024], 1
    assert len((await yard.call("GET", PATH)).json["items"]) == 1
    endless.keys = ["x" * 1025]
    answer = await yard.call("GET", PATH)
    assert answer.status == 400
    assert "a key of more than 1024 bytes" in answer.json["message"]


async def test_pages_are_numbered_so_far_as_a_store_is_asked(yard: Yard, endless: Canned) -> None:
    for page, size, most in ((101, 1000, 100), (1_000_000, 1, 100_000)):
        answer = await yard.call("GET", f"{PATH}?page={page}&size={size}")
        assert (answer.status, answer.json["field"]) == (400, "page")
        said = f"at most {most} of this size; `cursor` leads on, or name a `prefix`"
        assert said in answer.json["message"]
    assert endless.asked == []


async def test_a_cursor_leads_on_however_many_there_are(yard: Yard, endless: Canned) -> None:
    endless.pages, endless.keys = 1, [f"k/{n:03} +%ä" for n in range(250)]
    following: str | None = f"{PATH}?cursor=&size=100&prefix=k/"
    keys: list[str] = []
    while following is not None:
        page = (await yard.call("GET", following)).json
        assert set(page["metadata"]) <= {"links"}
        keys += [each["key"] for each in page["items"]]
        following = page["metadata"].get("links", {}).get("next")
    assert keys == endless.keys
    assert len(endless.asked) == 3
    for wrong in ("ä", "_w", "a"):
        answer = await yard.call("GET", f"{PATH}?cursor={wrong}")
        assert (answer.status, answer.json["field"]) == (400, "cursor"), wrong

"""Stores kept open: one for each set of keys, as long as somebody uses it or there is room."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from service.errors import StoreRefused
from service.supervisor.data.model import StoreAccess
from service.supervisor.data.s3.shelf import Shelf
from service.supervisor.data.s3.store import Store
from tests.support.waiting import until

ACCESS = StoreAccess("http://127.0.0.1:1", "us-east-1", "key", "secret")


OTHERS = [replace(ACCESS, access_key=f"other{n}") for n in range(3)]


def is_closed(store: Store) -> bool:
    return store._bodies._session.closed


async def used(shelf: Shelf, access: StoreAccess) -> Store:
    """The store after somebody used it and left."""
    async with shelf.open(access) as store:
        assert not is_closed(store)
    return store


async def test_the_same_keys_share_one_store_and_other_keys_do_not() -> None:
    shelf = Shelf()
    other = replace(ACCESS, secret_key="other")
    async with shelf.open(ACCESS) as one, shelf.open(ACCESS) as two, shelf.open(other) as three:
        assert one is two
        assert one is not three
    async with shelf.open(ACCESS) as later:
        assert later is one
    await shelf.close()


async def test_callers_at_the_same_moment_share_one_store(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = Store.open

    @asynccontextmanager
    async def after_the_others(access: StoreAccess, **more: Any) -> AsyncIterator[Store]:
        turn = asyncio.Event()
        asyncio.get_running_loop().call_soon(turn.set)
        await turn.wait()
        async with at_once(access, **more) as store:
            yield store

    monkeypatch.setattr(Store, "open", after_the_others)
    shelf = Shelf()
    assert len({id(store) for store in await asyncio.gather(*(used(shelf, ACCESS) for _ in range(5)))}) == 1
    await shelf.close()


async def test_only_what_nobody_uses_makes_room() -> None:
    shelf = Shelf(most=1)
    async with shelf.open(ACCESS) as in_use, shelf.open(ACCESS):
        idle = await used(shelf, OTHERS[0])
        await used(shelf, OTHERS[1])
        assert len(shelf) == 2  # the one in use and the newest
        assert is_closed(idle)
        assert await used(shelf, ACCESS) is in_use
    assert await used(shelf, OTHERS[0]) is not idle
    assert is_closed(in_use)
    await shelf.close()


async def test_the_one_that_was_not_used_for_longest_makes_room() -> None:
    shelf = Shelf(most=2)
    first = await used(shelf, OTHERS[0])
    second = await used(shelf, OTHERS[1])
    await used(shelf, OTHERS[0])
    await used(shelf, OTHERS[2])
    assert (is_closed(first), is_closed(second)) == (False, True)
    await shelf.close()


async def test_closing_closes_them_all() -> None:
    shelf = Shelf()
    stores = [await used(shelf, access) for access in OTHERS]
    await shelf.close()
    assert all(map(is_closed, stores))
    assert len(shelf) == 0


async def test_a_store_that_cannot_be_opened_is_not_kept() -> None:
    shelf = Shelf()
    for _ in range(2):
        with pytest.raises(StoreRefused):
            await used(shelf, replace(ACCESS, endpoint="ftp://x"))
    assert len(shelf) == 0
    assert not is_closed(await used(shelf, ACCESS))
    await shelf.close()


async def test_what_is_forgotten_is_closed_and_by_the_last_user_when_it_is_used() -> None:
    shelf = Shelf()
    idle = await used(shelf, OTHERS[0])
    async with shelf.open(ACCESS) as in_use:
        async with shelf.open(ACCESS):
            shelf.forget()
            assert len(shelf) == 0
            await until(lambda: is_closed(idle))
        assert not is_closed(in_use), "somebody still uses it"
        async with shelf.open(ACCESS) as later:
            assert later is not in_use
    await until(lambda: is_closed(in_use))
    assert not is_closed(later)
    await shelf.close()


async def test_keys_that_were_read_before_all_were_forgotten_are_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shelf, at_once = Shelf(), Store.open

    @asynccontextmanager
    async def meanwhile_forgotten(access: StoreAccess, **more: Any) -> AsyncIterator[Store]:
        shelf.forget()
        async with at_once(access, **more) as store:
            yield store

    monkeypatch.setattr(Store, "open", meanwhile_forgotten)
    store = await used(shelf, ACCESS)
    assert len(shelf) == 0
    await until(lambda: is_closed(store))
    await shelf.close()


@pytest.mark.parametrize("forgets", [False, True], ids=["kept", "forgotten"])
async def test_who_is_cancelled_while_room_is_made_uses_nothing(
    monkeypatch: pytest.MonkeyPatch, forgets: bool
) -> None:
    shelf, close, at_once = Shelf(most=1), AsyncExitStack.aclose, Store.open
    closing, go = asyncio.Event(), asyncio.Event()
    opened: list[Store] = []

    @asynccontextmanager
    async def noted(access: StoreAccess, **more: Any) -> AsyncIterator[Store]:
        async with at_once(access, **more) as store:
            opened.append(store)
            yield store

    async def slowly(stack: AsyncExitStack) -> None:
        closing.set()
        await go.wait()
        await close(stack)

    monkeypatch.setattr(Store, "open", noted)
    await used(shelf, OTHERS[0])
    monkeypatch.setattr(AsyncExitStack, "aclose", slowly)
    waiting = asyncio.create_task(used(shelf, ACCESS))
    await closing.wait()
    if forgets:
        shelf.forget()
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    go.set()
    await used(shelf, OTHERS[1])
    await until(lambda: [is_closed(store) for store in opened] == [True, True, False])
    await shelf.close()

"""Stores kept open: one for each set of keys, as long as somebody uses it or there is room."""

from __future__ import annotations

from dataclasses import replace

from service.supervisor.data.model import StoreAccess
from service.supervisor.data.shelf import Shelf

ACCESS = StoreAccess("http://127.0.0.1:1", "us-east-1", "key", "secret")


async def test_the_same_keys_share_one_store_and_other_keys_do_not() -> None:
    shelf = Shelf()
    other = replace(ACCESS, secret_key="other")
    async with shelf.open(ACCESS) as one, shelf.open(ACCESS) as two, shelf.open(other) as three:
        assert one is two
        assert one is not three
    async with shelf.open(ACCESS) as later:
        assert later is one
    await shelf.close()


async def test_only_what_nobody_uses_makes_room() -> None:
    shelf = Shelf(most=1)
    async with shelf.open(ACCESS) as used:
        async with shelf.open(replace(ACCESS, access_key="other")) as passing:
            pass
        async with shelf.open(replace(ACCESS, access_key="third")):
            assert len(shelf) == 2  # the one in use and the newest; the idle one is closed
        async with shelf.open(ACCESS) as still:
            assert still is used
    async with shelf.open(replace(ACCESS, access_key="other")) as again:
        assert again is not passing
    await shelf.close()
    assert len(shelf) == 0

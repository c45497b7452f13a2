"""Listings that no pull may follow, from a store that serves anything."""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from service.errors import DataError, StoreRefused, Unavailable, UnsafeKey
from service.supervisor.data import Limits, ObjectInfo, Source, Store
from tests.data.canned import Canned, serving
from tests.data.conftest import QUICK
from tests.data.sync import files, pulled, pushed, write

PLACE = Source("box")


@pytest.mark.parametrize(
    "key", ["../../etc/cron.d/x", "/etc/passwd", "a//b", "a/./b", "a\tb", "fine/x", "x" * 300]
)
async def test_one_bad_key_stops_the_pull_before_the_first_byte(volume: Path, key: str) -> None:
    canned = Canned(["fine", key])
    async with serving(canned) as access, Store.open(access, QUICK) as store:
        with pytest.raises(UnsafeKey):
            await pulled(store, PLACE, volume)
    assert list(volume.iterdir()) == []
    assert canned.asked == ["GET /box"]


@pytest.mark.parametrize("key", ["a", "a/", ""], ids=["file", "folder", "the place itself"])
async def test_a_listing_without_end_is_not_read_to_its_end(volume: Path, key: str) -> None:
    """Also one that tells of the same object for ever, which is but one file."""
    canned = Canned([f"data/{key}"])
    canned.pages = 50
    async with serving(canned) as access, Store.open(access, QUICK) as store:
        with pytest.raises(DataError, match="more than 3 objects under the prefix"):
            await pulled(store, Source("box", "data/"), volume, Limits(3, 100, 9))
    assert len(canned.asked) == 5, "as many as may be there, the place's own marker, and one too many"


async def test_a_page_of_a_listing_without_end_is_not_read_to_its_end(volume: Path) -> None:
    canned = Canned(["x"])
    canned.lists_on, canned.runs_on = True, 128 * 1024**2
    async with serving(canned) as access, Store.open(access, QUICK) as store:
        with pytest.raises(StoreRefused, match="the store answers with more than 8388608 bytes"):
            await pulled(store, PLACE, volume)
        canned.lists_on, canned.runs_on = False, 0
        await pulled(store, PLACE, volume)
    assert canned.went < 64 * 1024**2
    assert files(volume) == {"x": b"hello"}


class Crowded(Store):
    """The place of a push holds far more than the volume. `held` is how much of it was in memory."""

    held = 0

    async def list(
        self, container: str, prefix: str = "", after: str = ""
    ) -> AsyncGenerator[ObjectInfo, None]:
        for key in ("mine", *(f"theirs/{number}" for number in range(500)), "name/x"):
            yield ObjectInfo(key, 1, "0" * 32, datetime.now(UTC))
        self.held = sum(type(each) is ObjectInfo for each in gc.get_objects())


async def test_of_what_is_listed_at_the_target_of_a_push_only_what_concerns_it_is_held(volume: Path) -> None:
    write(volume, {"mine": b"1", "name": b"2"})
    async with serving(Canned([])) as access, Crowded.open(access, QUICK) as store:
        done = await pushed(store, PLACE, volume)
    assert (done.completed, done.failed) == (1, 1), "one name is a folder there"
    assert store.held < 20


async def test_folder_markers_make_folders(volume: Path) -> None:
    async with serving(Canned(["d/", "e/f/", "e/g"])) as access, Store.open(access, QUICK) as store:
        await pulled(store, PLACE, volume)
    assert (volume / "d").is_dir()
    assert (volume / "e/f").is_dir()
    assert files(volume) == {"e/g": b"hello"}


async def test_damaged_bytes_never_become_a_file(volume: Path) -> None:
    canned = Canned(["x"], body=b"jello")
    async with serving(canned) as access, Store.open(access, QUICK) as store:
        with pytest.raises(Unavailable, match="object x arrived damaged"):
            await pulled(store, PLACE, volume)
    assert list(volume.iterdir()) == []


async def test_passing_faults_are_retried(volume: Path) -> None:
    canned = Canned(["x"])
    async with serving(canned) as access, Store.open(access, QUICK) as store:
        canned.failures = 2
        await pulled(store, PLACE, volume)
        assert files(volume) == {"x": b"hello"}
        canned.failures = 3
        with pytest.raises(Unavailable, match="503"):
            await pulled(store, PLACE, volume)


async def test_no_request_asks_to_continue_or_to_compress(volume: Path) -> None:
    canned = Canned([])
    async with serving(canned) as access, Store.open(access, QUICK) as store:
        await store.upload("box", "x", _stream(b"1"))
        async with store.download("box", "x") as download:
            assert [chunk async for chunk in download.stream] == [b"hello"]
    put, get = canned.headers
    assert "expect" not in put
    assert get["accept-encoding"] == "identity"
    assert put["content-md5"] == "xMpCOKC5I4INzFCab3WEmw=="


async def _stream(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece

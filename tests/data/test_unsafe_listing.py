"""Listings that no pull may follow, from a store that serves anything."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.errors import Unavailable, UnsafeKey
from service.supervisor.data import Source, Store
from tests.data.canned import Canned, serving
from tests.data.conftest import QUICK
from tests.data.sync import files, pulled

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

"""A large object comes in a few long stretches, each taken up again where it broke off."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from service.errors import StoreRefused, Unavailable
from service.supervisor.data import ObjectInfo, Progress, Source, Store, prepare
from service.supervisor.data.transfer import PARTS_AT_ONCE
from tests.data.canned import Canned, serving
from tests.data.conftest import QUICK
from tests.data.sync import pulled
from tests.support.waiting import DEADLINE_S

MIB = 1024**2
BODY = os.urandom(3 * MIB) * 4
MD5 = hashlib.md5(BODY, usedforsecurity=False).hexdigest()
MULTIPART = "0" * 32 + "-5"


async def into(store: Store, volume: Path) -> Progress:
    await prepare(volume)
    return await pulled(store, Source("data"), volume)


def ranges(canned: Canned) -> list[tuple[int, int]]:
    """What was asked for: first and last byte."""
    asked = [headers["range"].removeprefix("bytes=") for headers in canned.headers if "range" in headers]
    return sorted((int(first), int(last)) for first, _, last in (each.partition("-") for each in asked))


@pytest.mark.parametrize("etag", [MD5, MULTIPART], ids=["hashed", "in parts"])
async def test_a_store_is_asked_for_a_large_object_a_few_times(tmp_path: Path, etag: str) -> None:
    """Some look at the whole object each time: rclone's reads it all for its hash."""
    canned = Canned(["large"], BODY, etag)
    async with serving(canned) as access, Store.open(access, QUICK) as store:
        done = await into(store, tmp_path / "volume")
    assert (tmp_path / "volume" / "large").read_bytes() == BODY
    assert done.transferred_bytes == len(BODY)
    quarter = len(BODY) // PARTS_AT_ONCE
    assert ranges(canned) == [(first, first + quarter - 1) for first in range(0, len(BODY), quarter)]


async def test_what_broke_off_is_taken_up_where_it_was(tmp_path: Path) -> None:
    """Far more often than is tried without getting on; and hardly a byte comes twice."""
    canned = Canned(["large"], BODY, MD5)
    canned.breaks_after = 2 * MIB // 3
    async with serving(canned) as access, Store.open(access, QUICK) as store:
        done = await into(store, tmp_path / "volume")
    assert (tmp_path / "volume" / "large").read_bytes() == BODY
    assert done.transferred_bytes == len(BODY)
    asked = ranges(canned)
    assert len(asked) > PARTS_AT_ONCE * QUICK.attempts
    assert len({first for first, _ in asked}) == len(asked), "none was begun anew"


@pytest.mark.parametrize("says_so", [False, True], ids=["breaks off", "answers with nothing"])
async def test_one_that_never_sends_a_byte_is_given_up(tmp_path: Path, says_so: bool) -> None:
    """After as many attempts as there are, where another may help; and each of them is one request."""
    canned = Canned(["large"], BODY, MD5)
    canned.breaks_after, canned.says_so = 0, says_so
    async with serving(canned) as access, Store.open(access, QUICK) as store:
        with pytest.raises(Unavailable, match="none of the bytes" if says_so else "cannot be reached"):
            async with asyncio.timeout(DEADLINE_S):
                await into(store, tmp_path / "volume")
    assert not (tmp_path / "volume" / "large").exists()
    assert max(Counter(ranges(canned)).values()) == (1 if says_so else QUICK.attempts)


@pytest.mark.parametrize("body", [b"hello", BODY], ids=["small", "large"])
async def test_of_a_body_that_runs_on_no_more_is_taken_than_was_asked_for(
    tmp_path: Path, body: bytes
) -> None:
    """Not into memory, and not to the disk behind the stretch's end; and nobody asks for it again."""
    canned = Canned(["x"], body, MULTIPART)
    canned.runs_on = 64 * MIB
    async with serving(canned) as access, Store.open(access, QUICK) as store:
        with pytest.raises(StoreRefused, match="object x in data: the store sends more than was asked for"):
            await into(store, tmp_path / "volume")
    assert canned.went < canned.runs_on // 2
    assert len(canned.asked) <= 1 + PARTS_AT_ONCE
    assert not (tmp_path / "volume" / "x").exists()


async def test_nothing_is_written_behind_the_end_of_a_stretch() -> None:
    canned = Canned(["x"], BODY, MD5)
    canned.runs_on = 64 * MIB
    taken: list[tuple[int, int]] = []

    async def take(offset: int, piece: Sequence[bytes]) -> None:
        taken.append((offset, offset + sum(map(len, piece))))

    info = ObjectInfo("x", len(BODY), MD5, datetime.now(UTC))
    async with serving(canned) as access, Store.open(access, QUICK) as store:
        with pytest.raises(StoreRefused):
            await store.stretch("data", info, offset=MIB, length=5 * MIB, take=take)
    assert max(end for _, end in taken) <= 6 * MIB


async def test_what_comes_damaged_is_not_placed(tmp_path: Path) -> None:
    canned = Canned(["large"], BODY, "0" * 32)
    async with serving(canned) as access, Store.open(access, QUICK) as store:
        with pytest.raises(Unavailable, match="damaged"):
            await into(store, tmp_path / "volume")
    assert not (tmp_path / "volume" / "large").exists()

"""Memory is bounded, as no more chunks are in flight than the concurrency says; and so is what comes."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from service.errors import DataError
from service.supervisor.data import (
    DEFAULT_LIMITS,
    Limits,
    ObjectInfo,
    Source,
    Store,
    StoreAccess,
    prepare,
    pull,
)
from service.supervisor.data.outgoing import Outgoing, Unstable
from service.supervisor.data.s3.bodies import Body, hashed
from service.supervisor.data.volume import beneath
from tests.data.conftest import QUICK
from tests.data.sync import files, fill, pulled, pushed, write


class Counting(Store):
    """Counts the chunks that move at the same time."""

    now = peak = 0

    @contextmanager
    def _one(self) -> Iterator[None]:
        self.now += 1
        self.peak = max(self.peak, self.now)
        try:
            yield
        finally:
            self.now -= 1

    async def get(
        self, container: str, expected: ObjectInfo, *, offset: int = 0, length: int | None = None
    ) -> Sequence[bytes]:
        with self._one():
            return await super().get(container, expected, offset=offset, length=length)

    async def stretch(self, container: str, expected: ObjectInfo, **what: Any) -> bool:
        with self._one():
            return await super().stretch(container, expected, **what)

    async def _put(self, container: str, key: str, body: Body, query: Mapping[str, str]) -> str:
        with self._one():
            return await super()._put(container, key, body, query)


async def test_what_lies_on_the_disk_can_be_pushed_and_what_is_claimed_is_bounded(
    store: Store, source: Source, volume: Path
) -> None:
    write(volume, {"dense": os.urandom(100_000)})
    with pytest.raises(DataError, match="more than 9 bytes"):
        await pushed(store, source, volume, limits=Limits(9, 9, 9))
    beyond = Limits(9, 50_000, 9, beyond_disk=True)
    assert (await pushed(store, source, volume, limits=beyond)).completed == 1
    with (volume / "sparse").open("wb") as file:
        file.truncate(49_000)
    assert (await pushed(store, source, volume, limits=beyond)).completed == 1
    with (volume / "sparse").open("wb") as file:
        file.truncate(100_000)
    with pytest.raises(DataError, match="the volume holds more than"):
        await pushed(store, source, volume, limits=beyond)


@pytest.fixture
async def counting(access: StoreAccess) -> AsyncIterator[Counting]:
    async with Counting.open(access, QUICK) as store:
        yield store


async def test_chunks_in_flight_are_at_most_the_concurrency(
    counting: Counting, source: Source, volume: Path, tmp_path: Path
) -> None:
    """One worker has a large object with more parts than slots, while the other goes through small ones."""
    write(volume, {"large": bytes(40 * 1024 * 1024)} | {f"small{n}": b"1" for n in range(60)})
    await pushed(counting, source, volume, concurrency=2)
    assert counting.peak == 2

    counting.peak = 0
    back = tmp_path / "back"
    await prepare(back)
    await pull(counting, source, back, limits=DEFAULT_LIMITS, on_progress=lambda _: None, concurrency=2)
    assert counting.peak == 2


class Shifting(Outgoing):
    """A file that a job writes to just after we read it."""

    def _read(self, offset: int, length: int) -> bytes:
        data = super()._read(offset, length)
        self.path.write_bytes(b"after")
        return data

    path: Path


def test_a_small_file_that_changes_while_it_is_read_is_not_taken(volume: Path) -> None:
    write(volume, {"x": b"before"})
    with beneath.opened_root(volume) as root_fd:
        file = Shifting(root_fd, "x")
        file.path = volume / "x"
        with pytest.raises(Unstable):
            file.begin(signed=True)
        assert not file.is_open


class Replaced(Store):
    """Once it is listed, somebody replaces the object `x` by one of so many bytes."""

    size = 0

    async def get(
        self, container: str, expected: ObjectInfo, *, offset: int = 0, length: int | None = None
    ) -> Sequence[bytes]:
        if expected.key == "x" and expected.size == 1:
            await self.put(container, "x", hashed(bytes(self.size), signed=self.signs_bodies))
        return await super().get(container, expected, offset=offset, length=length)


@pytest.mark.parametrize("size", [9, 10])
async def test_an_object_that_is_replaced_meanwhile_counts_as_it_is_now(
    access: StoreAccess, source: Source, volume: Path, size: int
) -> None:
    async with Replaced.open(access, QUICK) as store:
        store.size = size
        await fill(store, source, {"x": b"1", "y": b"2"})
        limits = Limits(max_objects=2, max_bytes=10, max_depth=1)
        if size == 10:
            with pytest.raises(DataError, match="more than 10 bytes under the prefix"):
                await pulled(store, source, volume, limits)
            assert "x" not in files(volume)
            return
        done = await pulled(store, source, volume, limits)
    assert files(volume) == {"x": bytes(9), "y": b"2"}
    assert done.total_bytes == done.transferred_bytes == 10

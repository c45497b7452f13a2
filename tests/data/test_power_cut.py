"""What must be safe on the disk before what: no test here can cut the power, so these look at the order."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from service.errors import DataError
from service.supervisor.data import Source, Store
from service.supervisor.data.model import CHUNK_BYTES
from service.supervisor.data.volume import beneath
from service.supervisor.data.volume.layout import manifest_path
from tests.data.canned import Canned, serving
from tests.data.conftest import QUICK
from tests.data.sync import files, fill, pulled, pushed, write
from tests.data.watched import Watched

AtSettle = Callable[[Callable[[], None]], None]


@pytest.fixture
def at_settle(monkeypatch: pytest.MonkeyPatch) -> AtSettle:
    """Calls something each time just before the file system is waited for."""
    settle = beneath.settle

    def put(act: Callable[[], None]) -> None:
        def acting(fd: int) -> None:
            act()
            settle(fd)

        monkeypatch.setattr(beneath, "settle", acting)

    return put


async def test_pulled_files_are_safe_before_the_manifest_tells_of_them(
    store: Store, source: Source, volume: Path, at_settle: AtSettle
) -> None:
    contents = {"a": b"1", "d/b": b"2"}
    await fill(store, source, contents)
    seen: list[tuple[dict[str, bytes], bool]] = []
    at_settle(lambda: seen.append((files(volume), manifest_path(volume).exists())))
    await pulled(store, source, volume)
    assert seen == [(contents, False)]
    assert manifest_path(volume).exists()


async def test_what_cannot_be_made_safe_is_no_pull(
    store: Store, source: Source, volume: Path, at_settle: AtSettle
) -> None:
    def broken() -> None:
        raise OSError(errno.EIO, "Input/output error")

    await fill(store, source, {"a": b"1"})
    at_settle(broken)
    with pytest.raises(DataError, match="volume: Input/output error"):
        await pulled(store, source, volume)
    assert not manifest_path(volume).exists()


async def test_a_file_that_is_known_by_its_time_alone_is_safe_before_it_has_its_name(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This large object's ETag is no hash of its bytes, so after a crash its size and time are believed."""
    large = os.urandom(CHUNK_BYTES + 1)
    named: list[bool] = []
    fsync = os.fsync

    def noted(fd: int) -> None:
        named.append((volume / "large").exists())
        fsync(fd)

    monkeypatch.setattr(os, "fsync", noted)
    canned = Canned(["large"], large, etag=f"{'0' * 32}-2")
    async with serving(canned) as access, Store.open(access, QUICK) as store:
        await pulled(store, Source("box"), volume)
    assert files(volume) == {"large": large}
    assert named == [False, True]  # the file, then the manifest


async def test_what_a_job_made_is_safe_before_any_of_it_is_sent(
    watched: Watched, source: Source, volume: Path, at_settle: AtSettle
) -> None:
    write(volume, {"made": b"1"})
    order: list[str] = []
    watched.act = lambda _: order.append("put")
    at_settle(lambda: order.append("settle"))
    await pushed(watched, source, volume)
    assert order == ["settle", "put"]


def test_a_file_system_that_cannot_be_waited_for_is_an_error() -> None:
    with pytest.raises(OSError) as failed:
        beneath.settle(-1)
    assert failed.value.errno == errno.EBADF

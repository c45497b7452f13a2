"""Two accounts of one endpoint: what was synchronised with one says nothing of the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.supervisor.cache.copying import copy
from service.supervisor.data import Source, Store, StoreAccess, prepare
from service.supervisor.data.volume import manifest
from tests.data.caching import Node, a_run
from tests.data.conftest import QUICK
from tests.data.server import rclone
from tests.data.sync import fill, held, pulled, pushed, write
from tests.data.test_archive import pushed as archive_pushed
from tests.data.watched import Watched


@pytest.fixture
async def other(store: Store, source: Source, tmp_path: Path) -> AsyncIterator[Store]:
    """As another tenant of the same endpoint sees it: another server, which goes by the name of the first."""
    (tmp_path / "tenant").mkdir()
    with rclone(tmp_path / "tenant") as access:
        async with Store.open(access, QUICK) as opened:
            opened.endpoint = store.endpoint
            opened.place = opened.place.replace(access.endpoint, store.endpoint)
            await opened.ensure_container(source.container)
            yield opened


async def test_what_was_pulled_from_one_account_is_sent_to_another(
    store: Store, other: Store, source: Source, volume: Path
) -> None:
    await fill(store, source, {"same": b"1", "gone": b"2"})
    await fill(other, source, {"gone": b"2"})
    await pulled(store, source, volume)
    write(volume, {"new": b"3"})
    (volume / "gone").unlink()
    done = await pushed(other, source, volume, "RWD")
    assert (done.completed, done.deleted) == (2, 0)
    assert await held(other, source) == {"same": b"1", "new": b"3", "gone": b"2"}
    assert (await pushed(store, source, volume, "RWD")).deleted == 1
    assert await held(store, source) == {"same": b"1", "new": b"3"}


async def test_a_cached_copy_is_of_the_account_it_was_asked_for(
    store: Store, other: Store, source: Source, tmp_path: Path
) -> None:
    node = Node(tmp_path / "state")
    for each in (store, other):
        await fill(each, source, {"same": b"1", "gone": b"2"})
    await node.objects(store, source)
    got = await node.objects(other, source)
    assert not got.is_new, "both hold the same"
    root = node.volume(a_run())
    await prepare(root)
    await copy(got.generation, root)
    (root / "gone").unlink()
    assert (await pushed(store, source, root, "RWD")).deleted == 0
    assert (await pushed(other, source, root, "RWD")).deleted == 1
    assert await held(store, source) == {"same": b"1", "gone": b"2"}


async def test_a_record_from_before_accounts_were_told_apart(
    access: StoreAccess, watched: Watched, source: Source, volume: Path
) -> None:
    write(volume, {"same": b"1", "gone": b"2"})
    await pushed(watched, source, volume)
    await archive_pushed(watched, source, volume)
    book = manifest.load(volume)
    for place in book.places:
        place.endpoint = place.endpoint.replace(f"{access.account}@", "")
    manifest.save(volume, book)
    elsewhere = access.endpoint + "0"
    manifest.adopt(volume, elsewhere, f"x@{elsewhere}")
    assert manifest.load(volume) == book
    manifest.adopt(volume, access.endpoint, watched.place)
    watched.sent.clear()
    await archive_pushed(watched, source, volume)
    (volume / "gone").unlink()
    done = await pushed(watched, source, volume, "RWD")
    assert (done.skipped, done.deleted, watched.sent) == (1, 1, [])

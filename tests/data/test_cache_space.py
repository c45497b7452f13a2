"""What goes from the cache, and above all what does not: a generation that a live run has, or is about to."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from service.errors import DataError, Unavailable
from service.supervisor.cache import Generation, Objects, marks
from service.supervisor.cache.entry import Version
from service.supervisor.cache.space import Bounds, Space
from service.supervisor.data import DEFAULT_LIMITS, Progress, Source, Store
from service.supervisor.names import RunId
from tests.data.caching import DAY_NS, Node, Reads, a_run
from tests.data.canned import Canned, serving
from tests.data.conftest import QUICK
from tests.data.sync import files
from tests.support.waiting import DEADLINE_S, until

BLOCK = 4096


class Shop:
    """A store with one object, whose ETag a test can change, and a node that caches places in it."""

    def __init__(self, node: Node, canned: Canned, store: Reads) -> None:
        self.node = node
        self.canned = canned
        self.store = store

    async def pull(self, place: str = "one", **how: Any) -> Generation:
        got = await self.node.objects(self.store, Source(place), **how)
        return got.generation

    def replace(self) -> None:
        """The object is another from now on."""
        self.canned.etag = f"{int(self.canned.etag.partition('-')[0] or 0) + 1}-2"


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    canned = Canned(["a"], os.urandom(100), etag="1-2")
    async with serving(canned) as access, Reads.open(access, QUICK) as store:
        yield Shop(Node(tmp_path / "state"), canned, store)


async def test_an_outdated_generation_goes_at_once_and_the_newest_stays(shop: Shop) -> None:
    old = await shop.pull()
    shop.replace()
    new = await shop.pull()
    await shop.node.cache.tidy()
    assert not shop.node.has(old.version)
    assert shop.node.has(new.version)
    assert shop.node.there() == ["2"]


async def test_one_that_a_live_run_has_stays_until_the_run_is_over(shop: Shop) -> None:
    run = a_run()
    old = await shop.pull(run=run)
    shop.replace()
    await shop.pull()
    await shop.node.cache.tidy()
    assert shop.node.has(old.version)
    shop.node.over.add(run)
    await shop.node.cache.tidy()
    assert shop.node.there() == ["2"]


async def test_the_newest_goes_when_no_job_has_used_it_for_too_long(shop: Shop) -> None:
    node, run = shop.node, a_run()
    await shop.pull("one", run=run)
    await shop.pull("two")
    node.now_ns += 6 * DAY_NS
    await shop.pull("two")  # used again
    await node.cache.tidy()
    node.now_ns += 6 * DAY_NS
    await node.cache.tidy()
    assert len(node.there()) == 2, "one is in use, two was six days ago"
    node.over.add(run)
    node.now_ns += 2 * DAY_NS
    await node.cache.tidy()
    assert len(node.there()) == 1, "of one, the last use was seen two days ago"
    node.now_ns += 6 * DAY_NS
    await node.cache.tidy()
    assert node.there() == []
    assert list(node.root.iterdir()) == [], "nothing is left of entries and projects that have nothing"


async def test_the_least_recently_used_goes_first_when_there_is_no_room(shop: Shop, tmp_path: Path) -> None:
    one = await shop.pull("one")
    size = shop.node.space.measure.all([one.version.key], frozenset())
    run = a_run()
    node = shop.node = Node(tmp_path / "other", max_bytes=3 * size)
    taken = {}
    for place in ("one", "two", "three"):
        node.now_ns += 1
        taken[place] = await shop.pull(place, run=run if place == "one" else None)
    node.now_ns += 1
    await shop.pull("two")
    node.now_ns += 1
    await shop.pull("four")
    assert node.has(taken["one"].version), "a live run has it"
    assert node.has(taken["two"].version), "it was used again"
    assert not node.has(taken["three"].version)


async def test_what_does_not_fit_beside_what_is_in_use_is_not_cached(shop: Shop, tmp_path: Path) -> None:
    shop.canned.body = bytes(8 * BLOCK)
    node = shop.node = Node(tmp_path / "other", max_bytes=24 * BLOCK)
    run = a_run()
    kept = await shop.pull("one", run=run)
    second = await shop.pull("two", run=run)  # the mark of its one volume: nobody has the first any more
    assert node.has(second.version)
    await shop.pull("one", run=a_run())
    shop.store.read.clear()
    origin = Objects(shop.store, Source("x"), DEFAULT_LIMITS, 4)
    async with node.cache.generation("alpha", a_run(), origin, _mute) as got:
        assert got is None
    assert shop.store.read == []
    assert node.has(kept.version)
    assert len(node.there()) == 2


async def test_a_bound_of_nothing_is_no_cache(shop: Shop, tmp_path: Path) -> None:
    shop.canned.keys = []
    node = Node(tmp_path / "other", max_bytes=0)
    origin = Objects(shop.store, Source("x"), DEFAULT_LIMITS, 4)
    async with node.cache.generation("alpha", a_run(), origin, _mute) as got:
        assert got is None


def _mute(_: Progress) -> None:
    """Nobody asks."""


async def test_pulls_at_once_do_not_pass_the_bound_together(shop: Shop, tmp_path: Path) -> None:
    shop.canned.body = bytes(8 * BLOCK)
    node = Node(tmp_path / "other", max_bytes=20 * BLOCK)
    shop.store.hold = "a"

    async def take(place: str) -> bool:
        origin = Objects(shop.store, Source(place), DEFAULT_LIMITS, 4)
        async with node.cache.generation("alpha", a_run(), origin, _mute) as got:
            return got is not None

    taking = [asyncio.create_task(take(f"place-{number}")) for number in range(4)]
    await until(lambda: sum(task.done() for task in taking) == 2, what="two have been told that it is full")
    shop.store.go.set()
    assert sorted(await asyncio.gather(*taking)) == [False, False, True, True]
    assert node.space.measure.all([], frozenset()) == 0


async def test_hard_links_count_once(shop: Shop) -> None:
    shop.canned.keys = ["a", "b"]
    shop.canned.body = bytes(8 * BLOCK)
    old = await shop.pull(run=a_run())
    key = old.version.key
    before = shop.node.space.measure.all([key], frozenset())
    shop.canned.keys = ["a", "b", "c"]
    await shop.pull()
    both = shop.node.space.measure.all([key], frozenset())
    assert 8 * BLOCK <= both - before < 16 * BLOCK
    assert shop.node.space.measure.freed(key, ["1"]) < 8 * BLOCK, "its files have other names"
    assert shop.node.space.measure.freed(key, ["1", "2"]) == both


async def test_what_a_killed_attempt_left_goes_when_nobody_wants_it_and_for_room(shop: Shop) -> None:
    node = shop.node
    generation = await shop.pull(run=a_run())
    left = generation.files.parent.with_name("making-0")
    left.mkdir()
    await node.cache.tidy()
    assert left.exists(), "the next pull may go on with it"
    node.now_ns = left.stat().st_mtime_ns + 8 * DAY_NS
    await node.cache.tidy()
    assert node.there() == ["1"]


async def test_what_is_gone_on_with_needs_its_room_once(shop: Shop, tmp_path: Path) -> None:
    shop.canned.keys = [f"{number}" for number in range(8)]
    shop.canned.body = bytes(8 * BLOCK)
    node = shop.node = Node(tmp_path / "other", max_bytes=80 * BLOCK)
    shop.store.hold = "7"
    first = asyncio.create_task(shop.pull())
    await shop.store.reached.wait()
    await until(lambda: len(node.half()) == 7, what="all but one are there")
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert [name[:7] for name in node.there()] == ["making-"]
    shop.store.go.set()
    await shop.pull()
    assert (len(shop.store.read), node.there()) == (8, ["1"])


async def test_a_ledger_that_cannot_be_asked_makes_no_room(shop: Shop, tmp_path: Path) -> None:
    shop.canned.body = bytes(8 * BLOCK)
    node = shop.node = Node(tmp_path / "other", max_bytes=12 * BLOCK)

    async def silent() -> None:
        raise Unavailable("the database does not answer")

    kept = await shop.pull("one")
    node.space._still_ours = silent
    origin = Objects(shop.store, Source("two"), DEFAULT_LIMITS, 4)
    async with node.cache.generation("alpha", a_run(), origin, _mute) as got:
        assert got is None
    assert node.has(kept.version)
    with pytest.raises(Unavailable):
        await node.cache.tidy()


async def test_what_is_nobodys_in_the_folders_is_left_alone(shop: Shop) -> None:
    node = shop.node
    old = await shop.pull()
    stranger = node.volumes / "not" / "ours" / "0.cached"
    stranger.parent.mkdir(parents=True)
    stranger.write_bytes(b"{")
    (node.root / "notes").write_bytes(b"1")
    (old.files.parent.parent / "notes").write_bytes(b"1")
    shop.replace()
    await shop.pull()
    await node.cache.tidy()
    assert node.there() == ["2"]
    assert stranger.exists()


async def test_what_was_being_removed_is_removed_after_a_kill(shop: Shop) -> None:
    generation = await shop.pull()
    gone = generation.files.parent.with_name("gone-0")
    (gone / "files").mkdir(parents=True)
    await shop.node.cache.tidy()
    assert shop.node.there() == ["1"]


async def test_what_cannot_be_told_is_taken_for_in_use(shop: Shop) -> None:
    run = a_run()
    old = await shop.pull(run=run)
    shop.replace()
    await shop.pull()
    path = shop.node.volume(run).with_name("0" + marks.SUFFIX)
    path.write_bytes(b"{")
    shop.node.now_ns += 100 * DAY_NS
    await shop.node.cache.tidy()
    assert shop.node.has(old.version)
    with pytest.raises(DataError, match=r"0\.cached of run"):
        marks.read(shop.node.volume(run))


async def test_who_has_lost_the_engine_evicts_nothing(shop: Shop) -> None:
    old = await shop.pull()
    shop.replace()
    await shop.pull()

    async def stale() -> None:
        raise DataError("the engine is another's")

    shop.node.space._still_ours = stale
    with pytest.raises(DataError):
        await shop.node.cache.tidy()
    assert shop.node.has(old.version)


# -- coming in while something is thrown out --------------------------------------------------------------


@pytest.fixture
def at_marks(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Calls something in the disk thread, each time right after eviction has looked at the marks."""
    plain = Space.marks

    def put(act: Callable[[], None]) -> None:
        def acting(self: Space) -> list[tuple[RunId, Version]] | None:
            found = plain(self)
            act()
            return found

        monkeypatch.setattr(Space, "marks", acting)

    return put


async def test_who_leaves_with_a_mark_while_eviction_looks_keeps_what_it_has(
    shop: Shop, at_marks: Callable[[Callable[[], None]], None]
) -> None:
    node, run = shop.node, a_run()
    node.space.bounds = Bounds(max_age_s=0, max_bytes=None)
    looked, go_on = threading.Event(), threading.Event()
    looks: list[None] = []

    def hold() -> None:
        looks.append(None)
        if len(looks) == 2:  # the first look is for runs that are over, before anybody is kept waiting
            looked.set()
            assert go_on.wait(DEADLINE_S)

    origin = Objects(shop.store, Source("one"), DEFAULT_LIMITS, 4)
    async with node.cache.generation("alpha", a_run(), origin, _mute) as got:
        assert got is not None
        node.now_ns += 1
        at_marks(hold)
        tidying = asyncio.create_task(node.cache.tidy())
        await until(looked.is_set, what="eviction has looked at the marks")
        marks.write(node.volume(run), got.generation.version)
    go_on.set()
    await tidying
    assert node.has(got.generation.version)


async def test_who_comes_while_something_is_thrown_out_waits_and_pulls_anew(
    shop: Shop, at_marks: Callable[[Callable[[], None]], None]
) -> None:
    node = shop.node
    old = await shop.pull()
    node.space.bounds = Bounds(max_age_s=0, max_bytes=None)
    node.now_ns += 1
    looked, go_on = threading.Event(), threading.Event()
    looks: list[None] = []

    def hold() -> None:
        looks.append(None)
        if len(looks) == 2:
            looked.set()
            assert go_on.wait(DEADLINE_S)

    at_marks(hold)
    tidying = asyncio.create_task(node.cache.tidy())
    await until(looked.is_set, what="eviction has looked at the marks")
    coming = asyncio.create_task(shop.pull())
    for _ in range(20):
        await asyncio.sleep(0)
    go_on.set()
    await tidying
    new = await coming
    assert shop.store.read == ["a", "a"]
    assert node.has(new.version)
    assert files(new.files) == {"a": shop.canned.body}
    assert old.files == new.files, "the same name, made anew"


async def test_any_interleaving_of_coming_in_leaving_and_throwing_out(shop: Shop) -> None:
    """Jobs come and go, the store changes, and eviction throws out all that it may, all the time."""
    node = shop.node
    node.space.bounds = Bounds(max_age_s=0, max_bytes=None)
    chance = random.Random(int(os.environ.get("JOBYARD_TEST_SEED", "7")))
    left = 60
    holders: dict[RunId, Version] = {}

    async def some_turns() -> None:
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)

    async def a_job() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            run, place = a_run(), chance.choice(["one", "two"])
            if chance.random() < 0.2:
                shop.replace()
            origin = Objects(shop.store, Source(place), DEFAULT_LIMITS, 4)
            async with node.cache.generation("alpha", run, origin, _mute) as got:
                assert got is not None
                await some_turns()
                assert node.has(got.generation.version), "inside"
                marks.write(node.volume(run), got.generation.version)
            holders[run] = got.generation.version
            for _ in range(chance.randrange(3)):
                await some_turns()
                assert files(got.generation.files).keys() == {"a"}, "while it runs"
            node.over.add(run)
            del holders[run]

    async def a_sweep() -> None:
        while left > 0:
            node.now_ns += 1
            await node.cache.tidy()
            assert all(node.has(version) for version in holders.values())

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(a_job())
        for _ in range(2):
            group.create_task(a_sweep())
    node.now_ns += 1
    await node.cache.tidy()
    assert node.there() == []


async def test_a_store_of_the_real_kind_and_a_run_that_goes_on(
    store: Store, source: Source, tmp_path: Path
) -> None:
    node = Node(tmp_path / "state", max_bytes=None)
    got = await node.objects(store, source, run=a_run())
    node.now_ns += 100 * DAY_NS
    await node.cache.tidy()
    assert node.has(got.generation.version)

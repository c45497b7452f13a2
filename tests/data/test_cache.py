"""The cache: pulled once, shared, refreshed by what the store says, and never anything but that."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from aiohttp import web

from service.errors import DataError, StoreDenied, Unavailable
from service.supervisor.cache import Objects
from service.supervisor.cache.cache import WAITS
from service.supervisor.data import DEFAULT_LIMITS, Limits, Progress, Source, Store, StoreAccess
from service.supervisor.data.incoming import Incoming
from service.supervisor.data.model import CHUNK_BYTES
from service.supervisor.data.transfer import PARTS_AT_ONCE
from service.supervisor.data.volume import beneath
from tests.data.caching import Node, Reads
from tests.data.canned import Canned, serving
from tests.data.conftest import QUICK
from tests.data.sync import files, fill
from tests.support.waiting import until

FILES = {"a": b"one", "d/b": b"two", "d/e/c": b"three", "empty": b""}


@pytest.fixture
async def reads(access: StoreAccess) -> AsyncIterator[Reads]:
    async with Reads.open(access, QUICK) as opened:
        yield opened


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path / "state")


async def test_it_is_pulled_once_and_then_moves_no_bytes(node: Node, reads: Reads, source: Source) -> None:
    await fill(reads, source, FILES)
    first = await node.objects(reads, source)
    assert files(first.generation.files) == FILES
    assert (first.progress.completed, first.progress.skipped, first.is_new) == (4, 0, True)
    assert sorted(reads.read) == sorted(FILES)
    reads.read.clear()
    heard: list[Progress] = []
    second = await node.objects(reads, source, heard=heard)
    assert reads.read == []
    assert second.generation == first.generation
    told = Progress(total=4, processed=4, skipped=4, total_bytes=11)
    assert (second.progress, second.is_new, heard) == (told, False, [told])


async def test_what_it_holds_is_the_services_own(node: Node, reads: Reads, source: Source) -> None:
    """Jobs may read it and, if they had a way to it that is not read-only, could not write it."""
    await fill(reads, source, FILES)
    got = await node.objects(reads, source)
    for path in (got.generation.files, *got.generation.files.rglob("*")):
        found = path.stat()
        assert (found.st_uid, found.st_mode & 0o777) == (os.geteuid(), 0o755 if path.is_dir() else 0o644)
    assert node.root.stat().st_mode & 0o077 == 0


async def test_a_refresh_fetches_what_changed_and_leaves_the_generation_before_as_it_was(
    node: Node, reads: Reads, source: Source
) -> None:
    await fill(reads, source, FILES)
    old = (await node.objects(reads, source)).generation
    reads.read.clear()
    await fill(reads, source, {"a": b"ONE", "new": b"4"})  # of the same size: the ETag alone tells
    await reads.delete_object(source.container, "d/e/c")
    got = await node.objects(reads, source)
    new = got.generation
    assert sorted(reads.read) == ["a", "new"]
    assert (got.progress.completed, got.progress.skipped, got.progress.transferred_bytes) == (2, 2, 4)
    assert files(new.files) == {"a": b"ONE", "d/b": b"two", "empty": b"", "new": b"4"}
    assert files(old.files) == FILES
    assert new.version.number == old.version.number + 1
    linked = {path for path in files(new.files) if _inode(new.files, path) == _inode(old.files, path)}
    assert linked == {"d/b", "empty"}
    assert not (new.files / "d/e").exists()


def _inode(root: Path, path: str) -> int:
    found = root / path
    return found.stat().st_ino if found.exists() else 0


async def test_a_file_system_without_hard_links(
    node: Node, reads: Reads, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    await fill(reads, source, FILES)
    await node.objects(reads, source)
    await fill(reads, source, {"a": b"ONE"})
    reads.read.clear()
    monkeypatch.setattr(os, "link", refuse)
    got = await node.objects(reads, source)
    assert files(got.generation.files) == FILES | {"a": b"ONE"}
    assert sorted(reads.read) == sorted(FILES)


async def test_what_only_went_away_moves_no_bytes_either(node: Node, reads: Reads, source: Source) -> None:
    await fill(reads, source, FILES)
    await node.objects(reads, source)
    reads.read.clear()
    await reads.delete_object(source.container, "a")
    got = await node.objects(reads, source)
    assert (reads.read, files(got.generation.files)) == ([], {k: v for k, v in FILES.items() if k != "a"})


async def test_folders_that_only_markers_name(node: Node) -> None:
    canned = Canned(["a", "d/m/"])
    async with serving(canned) as access, Reads.open(access, QUICK) as store:
        old = (await node.objects(store, Source("box"))).generation
        assert (old.files / "d/m").is_dir()
        assert not (await node.objects(store, Source("box"))).is_new
        (old.files / "d/m").rmdir()
        again = (await node.objects(store, Source("box"))).generation
        assert (again.files / "d/m").is_dir()
        canned.keys = ["a"]
        new = (await node.objects(store, Source("box"))).generation
    assert (store.read, files(new.files)) == (["a"], {"a": b"hello"})
    assert not (new.files / "d").exists()


async def test_each_project_and_each_place_has_its_own(node: Node, reads: Reads, source: Source) -> None:
    await fill(reads, source, FILES)
    mine = await node.objects(reads, source)
    reads.read.clear()
    theirs = await node.objects(reads, source, project="beta")
    assert sorted(reads.read) == sorted(FILES)
    assert theirs.generation.files != mine.generation.files
    reads.read.clear()
    below = await node.objects(reads, replace(source, prefix="d/"))
    assert sorted(reads.read) == ["d/b", "d/e/c"]
    assert files(below.generation.files) == {"b": b"two", "e/c": b"three"}


async def test_an_alias_that_leads_elsewhere_now_is_another_source(
    node: Node, access: StoreAccess, reads: Reads, source: Source
) -> None:
    await fill(reads, source, FILES)
    first = await node.objects(reads, source)
    elsewhere = replace(access, endpoint=access.endpoint.replace("127.0.0.1", "localhost"))
    assert elsewhere != access
    async with Reads.open(elsewhere, QUICK) as other:
        second = await node.objects(other, source)
        assert sorted(other.read) == sorted(FILES)
    assert second.generation.version.key != first.generation.version.key


class Revocable(Canned):
    """A store whose objects, or all of it, the keys may not read any more."""

    denies = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        is_object = request.path.count("/") > 1
        denied = self.denies == "all" or (self.denies == "objects" and is_object)
        self.refusal = (403, "" if request.method == "HEAD" else "AccessDenied") if denied else None
        return await super().answer(request)


@pytest.mark.parametrize("what", ["all", "objects"])
async def test_keys_that_may_not_read_it_any_more_do_not_get_it_from_the_cache(node: Node, what: str) -> None:
    canned = Revocable(["a", "b"])
    async with serving(canned) as access, Store.open(access, QUICK) as store:
        await node.objects(store, Source("box"))
        canned.asked.clear()
        await node.objects(store, Source("box"))
        assert [word for word in canned.asked if word.startswith("GET")] == ["GET /box"]
        canned.denies = what
        with pytest.raises(StoreDenied):
            await node.objects(store, Source("box"))


async def test_a_store_that_does_not_answer_is_waited_for_as_without_a_cache(node: Node) -> None:
    canned = Canned(["a"])
    async with serving(canned) as access, Store.open(access, QUICK) as store:
        await node.objects(store, Source("box"))
        canned.failures = 1_000
        with pytest.raises(Unavailable):
            await node.objects(store, Source("box"))


@pytest.mark.parametrize("limits", [Limits(3, 1000, 64), Limits(100, 10, 64), Limits(100, 1000, 2)])
async def test_a_jobs_own_limits_hold_also_for_what_is_there_already(
    node: Node, reads: Reads, source: Source, limits: Limits
) -> None:
    await fill(reads, source, FILES)
    await node.objects(reads, source)
    with pytest.raises(DataError, match="more than"):
        await node.objects(reads, source, limits)


# -- at once ----------------------------------------------------------------------------------------------


async def test_two_at_once_pull_once_and_the_second_says_what_it_waits_for(
    node: Node, reads: Reads, source: Source
) -> None:
    await fill(reads, source, FILES)
    reads.hold = "d/e/c"
    heard: list[Progress] = []
    first = asyncio.create_task(node.objects(reads, source))
    await reads.reached.wait()
    second = asyncio.create_task(node.objects(reads, source, heard=heard))
    await _waits(node)
    reads.go.set()
    one, two = await first, await second
    assert sorted(reads.read) == sorted(FILES)
    assert one.generation == two.generation
    assert (two.progress.skipped, two.progress.completed) == (4, 0)
    waited = [each for each in heard if each.notes == (WAITS,)]
    assert waited[-1] == Progress(total=4, processed=4, skipped=4, total_bytes=11, notes=(WAITS,))
    assert all((each.completed, each.transferred_bytes) == (0, 0) for each in heard)
    assert heard[-1] == two.progress


async def _waits(node: Node) -> None:
    """Until somebody waits for another's pull."""
    flights = node.cache._flights
    await until(lambda: any(flight.waiting for flight in flights.values()), what="one waits for another")


async def test_the_second_goes_on_with_what_a_cancelled_first_left(
    node: Node, reads: Reads, source: Source
) -> None:
    await fill(reads, source, FILES | {"z": b"held"})
    reads.hold = "z"
    first = asyncio.create_task(node.objects(reads, source))
    await reads.reached.wait()
    await until(lambda: node.half() == FILES.keys(), what="all but one are there")
    second = asyncio.create_task(node.objects(reads, source))
    await _waits(node)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    reads.go.set()
    got = await second
    assert files(got.generation.files) == FILES | {"z": b"held"}
    assert sorted(reads.read) == sorted([*FILES, "z"]), "nothing is fetched twice"
    assert node.there() == ["1"]


async def test_the_second_does_not_fail_with_the_firsts_own_fault(
    node: Node, reads: Reads, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first finds no room on the disk; by the time of the second somebody has made some."""
    await fill(reads, source, FILES)
    reads.hold = "a"
    first = asyncio.create_task(node.objects(reads, source))
    await reads.reached.wait()
    second = asyncio.create_task(node.objects(reads, source))
    await _waits(node)
    with monkeypatch.context() as patched:
        patched.setattr(Incoming, "append", _full)
        reads.hold = ""
        reads.go.set()
        with pytest.raises(DataError, match="no space is left"):
            await first
    assert files((await second).generation.files) == FILES


def _full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


# -- what goes wrong --------------------------------------------------------------------------------------


async def test_a_full_disk_leaves_no_half_generation(
    node: Node, reads: Reads, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(reads, source, FILES)
    old = (await node.objects(reads, source)).generation
    await fill(reads, source, {"a": b"other"})
    with monkeypatch.context() as patched:
        patched.setattr(Incoming, "append", _full)
        with pytest.raises(DataError, match="no space is left on the volume's disk"):
            await node.objects(reads, source)
    assert (node.there(), files(old.files)) == (["1"], FILES)
    assert files((await node.objects(reads, source)).generation.files)["a"] == b"other"


async def test_a_lost_or_damaged_record_is_pulled_anew(node: Node, reads: Reads, source: Source) -> None:
    await fill(reads, source, FILES)
    old = (await node.objects(reads, source)).generation
    for record in (b'{"version": 1', b"{}", None):
        reads.read.clear()
        path = old.files.with_name("record.json")
        path.write_bytes(record) if record is not None else path.unlink()
        got = await node.objects(reads, source)
        assert sorted(reads.read) == sorted(FILES)
        assert files(got.generation.files) == FILES
        assert got.generation.version != old.version
        old = got.generation


@pytest.mark.parametrize("damage", ["lost", "shorter", "folder", "all"])
async def test_what_is_damaged_is_fetched_anew_and_no_more(
    node: Node, reads: Reads, source: Source, damage: str
) -> None:
    await fill(reads, source, FILES)
    old = (await node.objects(reads, source)).generation
    reads.read.clear()
    victim = old.files / "d/e/c"
    match damage:
        case "lost":
            victim.unlink()
        case "shorter":
            victim.write_bytes(b"x")
        case "folder":
            victim.unlink()
            victim.mkdir()
        case _:
            old.files.rename(old.files.with_name("away"))
    got = await node.objects(reads, source)
    assert (files(got.generation.files), got.generation.version.number) == (FILES, 2)
    assert sorted(reads.read) == (sorted(FILES) if damage == "all" else ["d/e/c"])


async def test_an_object_that_is_replaced_while_it_is_fetched(
    node: Node, reads: Reads, source: Source
) -> None:
    await fill(reads, source, FILES)
    reads.hold = "a"
    pulling = asyncio.create_task(node.objects(reads, source))
    await reads.reached.wait()
    await fill(reads, source, {"a": b"replaced"})
    reads.hold = ""
    reads.go.set()
    got = await pulling
    assert files(got.generation.files)["a"] == b"replaced"
    reads.read.clear()
    assert (await node.objects(reads, source)).generation == got.generation
    assert reads.read == []


CHILD = """
import asyncio, json, os, sys
from pathlib import Path
from service.supervisor.cache import making
from service.supervisor.data import Source, Store, StoreAccess
from tests.data.caching import Node, Reads

access, container, state, after = json.loads(sys.argv[1])

class Dying(Reads):
    async def get(self, *args, **kwargs):
        if len(self.read) == after:
            os._exit(9)
        return await super().get(*args, **kwargs)

if after < 0:
    making.records.save = lambda *_: os._exit(9)
if after < -1:
    making.records.save = lambda path, _: (path.write_bytes(b"{"), os._exit(9))

async def main():
    async with Dying.open(StoreAccess(**access)) as store:
        await Node(Path(state)).objects(store, Source(container))

asyncio.run(main())
"""


@pytest.mark.parametrize(("after", "before"), [(0, True), (20, False), (20, True), (-1, True), (-2, False)])
async def test_a_kill_at_any_moment_is_gone_on_from(
    access: StoreAccess, node: Node, reads: Reads, source: Source, after: int, before: bool
) -> None:
    contents = {f"d{n % 3}/{n}": str(n).encode() * 100 for n in range(40)}
    await fill(reads, source, contents)
    if before:
        await node.objects(reads, source)
        changed = {key: data[::-1] + b"!" for key, data in list(contents.items())[:30]}
        await fill(reads, source, changed)
        contents |= changed
    told = json.dumps([asdict(access), source.container, str(node.root.parent), after])
    ended = subprocess.run([sys.executable, "-c", CHILD, told], timeout=60, check=False, capture_output=True)
    assert ended.returncode == 9, ended.stderr.decode()[-2000:]
    assert len([name for name in node.there() if name.isdecimal()]) == before
    left = node.half()
    assert len(left) == {0: 10 if before else 0, 20: len(left)}.get(after, 40)
    del contents["d0/0"]
    await reads.delete_object(source.container, "d0/0")  # and is not wanted any more
    reads.read.clear()
    got = await node.objects(reads, source)
    assert files(got.generation.files) == contents
    assert len(reads.read) == len(contents.keys() - left)
    assert node.there() == (["1", "2"] if before else ["1"])
    assert (got.generation.files / "d1/1").stat().st_uid == os.geteuid()


async def test_a_process_that_was_stopped_and_lives_keeps_what_it_makes(
    node: Node, tmp_path: Path, reads: Reads, source: Source
) -> None:
    """It has lost the engine and does not know yet: two caches over one folder do not mix what they make."""
    await fill(reads, source, FILES)
    reads.hold = "a"
    stopped = asyncio.create_task(node.objects(reads, source))
    await reads.reached.wait()
    reads.hold = ""
    await fill(reads, source, {"d/b": b"later"})
    other = Node(tmp_path / "state")
    new = await other.objects(reads, source)
    reads.go.set()
    old = await stopped
    assert files(new.generation.files) == FILES | {"d/b": b"later"}
    assert old.generation.files != new.generation.files
    assert (await other.objects(reads, source)).generation.record.files["d/b"].size == 5


async def test_a_generation_has_its_name_when_all_of_it_is_safe_on_the_disk(
    node: Node, reads: Reads, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No test here can cut the power, so this looks at the order."""
    await fill(reads, source, FILES)
    settle, seen = beneath.settle, []

    def noted(fd: int) -> None:
        recorded = bool(list(node.root.glob("*/*/making-*/record.json")))
        seen.append((recorded, [name for name in node.there() if name.isdecimal()]))
        settle(fd)

    monkeypatch.setattr(beneath, "settle", noted)
    await node.objects(reads, source)
    assert seen == [(False, []), (True, [])]
    assert node.there() == ["1"]


async def test_large_objects_and_etags_that_are_no_hash(node: Node) -> None:
    large = os.urandom(CHUNK_BYTES + 1)
    canned = Canned(["large"], large, etag=f"{'0' * 32}-2")
    async with serving(canned) as access, Reads.open(access, QUICK) as store:
        old = await node.objects(store, Source("box"))
        assert len(store.read) == PARTS_AT_ONCE
        assert (await node.objects(store, Source("box"))).generation == old.generation
        assert len(store.read) == PARTS_AT_ONCE
        canned.etag = f"{'1' * 32}-2"
        new = await node.objects(store, Source("box"))
    assert (len(store.read), new.generation.version.number) == (2 * PARTS_AT_ONCE, 2)
    assert files(old.generation.files) == files(new.generation.files) == {"large": large}


async def test_a_missing_container_is_made_and_is_empty(node: Node, store: Store, source: Source) -> None:
    missing = Source(f"{source.container}-2")
    assert files((await node.objects(store, missing)).generation.files) == {}
    assert missing.container in await store.containers()
    assert not (await node.objects(store, missing)).is_new


async def test_a_store_that_gives_no_etags_is_pulled_each_time(node: Node) -> None:
    canned = Canned(["a"], etag="")
    async with serving(canned) as access, Reads.open(access, QUICK) as store:
        for count in (1, 2):
            assert (await node.take(Objects(store, Source("box"), DEFAULT_LIMITS, 4))).is_new
            assert len(store.read) == count

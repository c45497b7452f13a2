"""Pull and push against a real store."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from service.errors import DataError
from service.supervisor.data import DEFAULT_LIMITS, Limits, Progress, Source, Store, prepare, pull
from service.supervisor.data.volume.beneath import OWNER
from service.supervisor.data.volume.layout import manifest_path, partial_path
from tests.data.sync import files, fill, held, pulled, pushed, write

OBJECTS = {"a": b"1", "d/b": b"22", "d/e/f/g h é": b"333", "empty": b""}


async def test_a_pull_makes_the_files_and_nothing_else(store: Store, source: Source, volume: Path) -> None:
    await fill(store, source, OBJECTS)
    done = await pulled(store, source, volume)
    assert files(volume) == OBJECTS
    assert (done.total, done.processed, done.completed, done.failed) == (4, 4, 4, 0)
    assert (done.transferred_bytes, done.total_bytes, done.notes) == (6, 6, ())
    assert sorted(p.name for p in volume.parent.iterdir()) == ["0", "0.manifest.json"]


async def test_pulled_files_belong_to_the_job(store: Store, source: Source, volume: Path) -> None:
    """Only root can give files away; without it they stay the service's."""
    owner = (OWNER, OWNER) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    await fill(store, source, {"d/e/x": b"1"})
    await pulled(store, source, volume)
    for path, mode in (
        (volume, 0o755),
        (volume / "d", 0o755),
        (volume / "d/e", 0o755),
        (volume / "d/e/x", 0o644),
    ):
        found = path.stat()
        assert ((found.st_uid, found.st_gid), stat.S_IMODE(found.st_mode)) == (owner, mode), path


async def test_rw_pushes_new_and_changed_and_never_deletes(
    store: Store, source: Source, volume: Path
) -> None:
    await fill(store, source, {"keep": b"k", "change": b"old", "gone": b"g"})
    await pulled(store, source, volume)
    (volume / "gone").unlink()
    write(volume, {"change": b"new", "made/new": b"n"})
    done = await pushed(store, source, volume, "RW")
    assert await held(store, source) == {"keep": b"k", "change": b"new", "gone": b"g", "made/new": b"n"}
    assert (done.total, done.completed, done.skipped, done.deleted, done.transferred_bytes) == (3, 2, 1, 0, 4)


async def test_rwd_deletes_only_what_the_job_deleted(store: Store, source: Source, volume: Path) -> None:
    await fill(
        store, source, {"p/keep": b"k", "p/gone": b"g", "p/d/gone": b"g", "p/replaced": b"r", "q/out": b"o"}
    )
    place = Source(source.container, "p/")
    await pulled(store, place, volume)
    for name in ("gone", "d/gone", "replaced"):
        (volume / name).unlink()
    await fill(store, source, {"p/appeared": b"x", "p/replaced": b"by another"})
    done = await pushed(store, place, volume, "RWD")
    assert set(await held(store, source)) == {"p/keep", "p/appeared", "p/replaced", "q/out"}
    assert done.deleted == 2
    assert done.notes == ("replaced: replaced in the store meanwhile, not deleted",)


async def test_rwd_deletes_what_this_job_itself_pushed_before(
    store: Store, source: Source, volume: Path
) -> None:
    write(volume, {"checkpoint": b"1"})
    await pushed(store, source, volume, "RWD")
    (volume / "checkpoint").unlink()
    assert (await pushed(store, source, volume, "RWD")).deleted == 1
    assert await held(store, source) == {}


async def test_rwd_without_a_manifest_deletes_nothing(store: Store, source: Source, volume: Path) -> None:
    await fill(store, source, {"theirs": b"t"})
    write(volume, {"mine": b"m"})
    assert (await pushed(store, source, volume, "RWD")).deleted == 0
    assert set(await held(store, source)) == {"theirs", "mine"}


async def test_rwd_deletes_nothing_below_what_it_cannot_see(
    store: Store, source: Source, volume: Path
) -> None:
    await fill(store, source, {"d/x": b"x", "e": b"e"})
    await pulled(store, source, volume)
    (volume / "d/x").unlink()
    (volume / "d").rmdir()
    (volume / "d").symlink_to("/etc")
    (volume / "e").unlink()
    (volume / "e").symlink_to("/etc/passwd")
    assert (await pushed(store, source, volume, "RWD")).deleted == 0
    assert await held(store, source) == {"d/x": b"x", "e": b"e"}


async def test_rwd_turns_a_file_into_a_folder_and_back(store: Store, source: Source, volume: Path) -> None:
    await fill(store, source, {"a": b"file", "b/c": b"folder"})
    await pulled(store, source, volume)
    (volume / "a").unlink()
    (volume / "b/c").unlink()
    (volume / "b").rmdir()
    write(volume, {"a/x": b"now a folder", "b": b"now a file"})
    done = await pushed(store, source, volume, "RWD")
    assert await held(store, source) == {"a/x": b"now a folder", "b": b"now a file"}, done.notes


async def test_rw_does_not_push_a_name_that_would_be_file_and_folder(
    store: Store, source: Source, volume: Path
) -> None:
    await fill(store, source, {"a": b"file", "b/c": b"folder"})
    write(volume, {"a/x": b"1", "b": b"2"})
    done = await pushed(store, source, volume, "RW")
    assert done.failed == 2
    assert all("both file and folder" in note for note in done.notes)
    assert await held(store, source) == {"a": b"file", "b/c": b"folder"}


async def test_a_prefix_is_the_mounted_folder_both_ways(store: Store, source: Source, volume: Path) -> None:
    await fill(store, source, {"data/a": b"1", "data/d/b": b"2", "database": b"3", "other": b"4"})
    place = Source(source.container, "data/")
    await pulled(store, place, volume)
    assert files(volume) == {"a": b"1", "d/b": b"2"}
    write(volume, {"new/c": b"5"})
    await pushed(store, place, volume, "RWD")
    assert await held(store, source) == {
        "data/a": b"1", "data/d/b": b"2", "database": b"3", "other": b"4", "data/new/c": b"5",
    }  # fmt: skip


async def test_a_prefix_within_a_name_filters(store: Store, source: Source, volume: Path) -> None:
    await fill(store, source, {"data/train/a": b"1", "data/tr": b"2", "data/test": b"3"})
    place = Source(source.container, "data/tr")
    await pulled(store, place, volume)
    assert files(volume) == {"train/a": b"1", "tr": b"2"}
    write(volume, {"other": b"x", "train/new": b"n"})
    done = await pushed(store, place, volume, "RW")
    assert done.notes == ("other: outside the prefix data/tr, not pushed",)
    assert set(await held(store, source)) == {"data/train/a", "data/tr", "data/test", "data/train/new"}


async def test_a_missing_container_is_created(store: Store, source: Source, volume: Path) -> None:
    fresh = Source(source.container + "-new")
    assert (await pulled(store, fresh, volume)).total == 0
    assert fresh.container in await store.containers()
    write(volume, {"x": b"1"})
    other = Source(source.container + "-target")
    await pushed(store, other, volume)
    assert await held(store, other) == {"x": b"1"}


async def test_pushing_to_another_place_sends_everything(store: Store, source: Source, volume: Path) -> None:
    await fill(store, source, {"a": b"1", "b": b"2"})
    await pulled(store, source, volume)
    (volume / "b").unlink()
    target = Source(source.container + "-target")
    done = await pushed(store, target, volume, "RWD")
    assert (done.completed, done.deleted) == (1, 0)
    assert await held(store, target) == {"a": b"1"}
    assert await held(store, source) == {"a": b"1", "b": b"2"}


async def test_many_small_and_one_large_there_and_back(
    store: Store, source: Source, volume: Path, tmp_path: Path
) -> None:
    contents = {f"s/{n % 7}/{n}": f"{n}".encode() * (n % 50) for n in range(300)}
    contents["large"] = os.urandom(40 * 1024 * 1024)
    write(volume, contents)
    done = await pushed(store, source, volume)
    assert (done.completed, done.failed) == (301, 0)
    assert done.transferred_bytes == done.total_bytes == sum(map(len, contents.values()))
    again = await pushed(store, source, volume)
    assert (again.transferred_bytes, again.skipped) == (0, 301)

    back = tmp_path / "other" / "0"
    await prepare(back)
    assert (await pulled(store, source, back)).completed == 301
    assert files(back) == contents
    again = await pulled(store, source, back)
    assert (again.transferred_bytes, again.skipped) == (0, 301)
    assert (await pushed(store, source, back, "RWD")).transferred_bytes == 0
    # Where the manifest is lost, the bytes themselves tell: nothing moves either way.
    for root in (back, volume):
        manifest_path(root).unlink()
    assert (await pulled(store, source, back)).transferred_bytes == 0
    assert (await pushed(store, source, volume)).transferred_bytes == 0


async def test_a_second_pull_keeps_what_the_job_changed(store: Store, source: Source, volume: Path) -> None:
    await fill(store, source, {"mine": b"old", "both": b"old", "theirs": b"old", "lost": b"old"})
    await pulled(store, source, volume)
    write(volume, {"mine": b"job's", "both": b"job's"})
    (volume / "lost").unlink()
    await fill(store, source, {"both": b"store's", "theirs": b"store's"})
    done = await pulled(store, source, volume)
    assert files(volume) == {"mine": b"job's", "both": b"job's", "theirs": b"store's", "lost": b"old"}
    assert done.notes == ("both: changed here and in the store, kept as it is here",)
    await pushed(store, source, volume)
    assert (await held(store, source))["both"] == b"job's"


async def test_a_change_that_hides_its_time_is_pushed(store: Store, source: Source, volume: Path) -> None:
    await fill(store, source, {"x": b"old"})
    await pulled(store, source, volume)
    before = (volume / "x").stat()
    (volume / "x").write_bytes(b"new")
    os.utime(volume / "x", ns=(before.st_atime_ns, before.st_mtime_ns))
    await pushed(store, source, volume)
    assert await held(store, source) == {"x": b"new"}


async def test_a_touched_file_moves_no_bytes(store: Store, source: Source, volume: Path) -> None:
    await fill(store, source, {"x": b"same"})
    await pulled(store, source, volume)
    os.utime(volume / "x")
    assert (await pushed(store, source, volume)).transferred_bytes == 0


async def test_an_unreadable_manifest_means_comparing_again(
    store: Store, source: Source, volume: Path
) -> None:
    await fill(store, source, {"x": b"1"})
    await pulled(store, source, volume)
    manifest_path(volume).write_bytes(b"{ not json")
    done = await pulled(store, source, volume)
    assert (done.skipped, done.transferred_bytes) == (1, 0)


async def test_progress_is_reported_from_first_to_last(store: Store, source: Source, volume: Path) -> None:
    await fill(store, source, OBJECTS)
    seen: list[Progress] = []
    done = await pull(store, source, volume, limits=DEFAULT_LIMITS, on_progress=seen.append, concurrency=2)
    assert seen[0] == Progress(total=4, total_bytes=6)
    assert seen[-1] == done


async def test_limits_hold_for_pull_and_push(store: Store, source: Source, volume: Path) -> None:
    await fill(store, source, {"a": b"1", "b": b"2"})
    with pytest.raises(DataError, match="more than 1 objects"):
        await pulled(store, source, volume, Limits(1, 100, 9))
    assert files(volume) == {}
    write(volume, {"d/e": b"1"})
    for limits in (Limits(1, 10**6, 9), Limits(9, 0, 9)):
        with pytest.raises(DataError, match="more than"):
            await pushed(store, source, volume, limits=limits)
    with pytest.raises(DataError, match="more than 1 folders deep"):
        write(volume, {"d/e2/f": b"1"})
        await pushed(store, source, volume, limits=Limits(99, 10**6, 1))
    assert not partial_path(volume).exists()

"""Volumes that are one archive in a real store: pulled, pushed, kept as it was, and hostile."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import tarfile
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import DataError, FetchRefused, StoreMissing, Unavailable, UnsafeKey
from service.supervisor.data import DEFAULT_LIMITS, Limits, Permission, Progress, Source, Store, prepare
from service.supervisor.data.archive.pack import Digest, Packing
from service.supervisor.data.archive.pull import pull_archive
from service.supervisor.data.archive.push import push_archive
from service.supervisor.data.model import CHUNK_BYTES, ObjectInfo
from service.supervisor.data.outgoing import Unstable
from service.supervisor.data.s3.reading import Download
from tests.data.canned import Canned, serving
from tests.data.sync import files, fill, held, write
from tests.data.watched import Watched

KEY = "out/model.tar"


async def pulled(store: Store, source: Source, root: Path, key: str = KEY, **how: Any) -> Progress:
    how = {"limits": DEFAULT_LIMITS} | how
    return await pull_archive(store, source.container, key, root, on_progress=lambda _: None, **how)


async def pushed(
    store: Store, source: Source, root: Path, permission: Permission = "RW", key: str = KEY
) -> Progress:
    return await push_archive(
        store,
        source.container,
        key,
        root,
        permission=permission,
        limits=DEFAULT_LIMITS,
        on_progress=lambda _: None,
    )


def tar(contents: dict[str, bytes], mode: str = "w") -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return made.getvalue()


def zipped(contents: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return made.getvalue()


def members(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        found = {}
        for info in archive:
            file = archive.extractfile(info)
            assert file is not None
            assert info.name not in found
            found[info.name] = file.read()
        return found


async def stored(store: Store, source: Source, key: str = KEY) -> dict[str, bytes]:
    return members((await held(store, source))[key])


async def another(root: Path, run: int = 2) -> Path:
    """A volume of another run."""
    made = root.parent.parent / f"{run}" / "0"
    await prepare(made)
    return made


TREE = {"a": b"1", "d/b": b"2" * 700, "d/e/c": b""}


@pytest.mark.parametrize("key", ["x.tar", "x.tar.gz", "deep/x.tgz"])
async def test_what_is_pushed_is_pulled(store: Store, source: Source, volume: Path, key: str) -> None:
    write(volume, TREE)
    (volume / "a").chmod(0o755)
    (volume / "link").symlink_to("/etc/passwd")
    done = await pushed(store, source, volume, "RWD", key)
    assert (done.total, done.completed, done.skipped) == (4, 3, 1)
    assert done.notes == ("link: symbolic link, not pushed",)
    back = await another(volume)
    done = await pulled(store, source, back, key)
    assert (done.total, done.completed) == (3, 3)
    assert files(back) == TREE
    assert [(back / name).stat().st_mode & 0o777 for name in ("a", "d/b")] == [0o755, 0o644]


@pytest.mark.parametrize(
    "make", [tar, *(partial(tar, mode=f"w:{kind}") for kind in ("gz", "bz2", "xz")), zipped]
)
async def test_an_archive_is_told_by_its_content(
    store: Store, source: Source, volume: Path, make: Callable[[dict[str, bytes]], bytes]
) -> None:
    await fill(store, source, {"some.thing": make(TREE)})
    await pulled(store, source, volume, "some.thing")
    assert files(volume) == TREE


async def test_no_archive_yet_is_an_empty_volume(store: Store, source: Source, volume: Path) -> None:
    none = await pulled(store, source, volume)
    assert (none.total, none.notes) == (0, (f"{KEY}: not there yet, so the volume begins empty",))
    new = Source(source.container + "-new")
    await pulled(store, new, volume)
    assert await held(store, new) == {}
    write(volume, TREE)
    await pushed(store, Source(source.container + "-newer"), volume)
    assert await stored(store, Source(source.container + "-newer")) == TREE


async def test_an_archive_that_must_be_there_is_missed_by_name(
    store: Store, source: Source, volume: Path
) -> None:
    new = Source(source.container + "-none")
    for place in (source, new):
        with pytest.raises(StoreMissing, match=KEY):
            await pulled(store, place, volume, must_exist=True)
    assert new.container not in await store.containers()


async def test_pushes_into_one_archive_lose_nothing_of_each_other(
    store: Store, source: Source, volume: Path
) -> None:
    write(volume, {"old": b"0"})
    await pushed(store, source, volume)
    runs = [await another(volume, n) for n in (2, 3, 4)]
    for n, root in enumerate(runs):
        write(root, {f"of{n}": b"1"})
    done = await asyncio.gather(*(pushed(store, source, root) for root in runs))
    assert [each.completed for each in done] == [1, 1, 1]
    assert await stored(store, source) == {"old": b"0", "of0": b"1", "of1": b"1", "of2": b"1"}


@pytest.mark.parametrize("there", [False, True])
async def test_what_others_push_while_an_archive_is_merged_is_kept(
    store: Store, source: Source, volume: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    """Those of other processes, which take no turn with us: after it was read, or missed."""
    if there:
        await fill(store, source, {KEY: tar({"old": b"0", "d": b"2"})})
    last, others = "download" if there else "head", {"theirs": b"2", "d": b"3"}
    ask = getattr(store, last)

    @asynccontextmanager
    async def download(container: str, key: str) -> AsyncIterator[Download]:
        monkeypatch.setattr(store, last, ask)
        async with ask(container, key) as found:
            yield found
        await fill(store, source, {KEY: tar(others)})

    async def head(container: str, key: str) -> ObjectInfo:
        monkeypatch.setattr(store, last, ask)
        try:
            return cast("ObjectInfo", await ask(container, key))
        finally:
            await fill(store, source, {KEY: tar(others)})

    monkeypatch.setattr(store, last, download if there else head)
    write(volume, TREE)
    done = await pushed(store, source, volume)
    assert await stored(store, source) == TREE | {"theirs": b"2"}
    assert done.notes == ("d: the volume has its name otherwise, not kept",)


async def test_unchanged_data_moves_no_bytes(watched: Watched, source: Source, volume: Path) -> None:
    write(volume, TREE)
    await pushed(watched, source, volume)
    before = await watched.head(source.container, KEY)
    watched.sent.clear()
    again = await pushed(watched, source, volume, "RWD")
    assert (again.transferred_bytes, again.skipped) == (0, 3)
    pull = await pulled(watched, source, volume)
    assert (pull.transferred_bytes, pull.skipped) == (0, 3)
    os.utime(volume / "a")
    touched = await pushed(watched, source, volume, "RWD")
    assert (touched.transferred_bytes, touched.completed) == (0, 0)
    assert watched.sent == []
    assert await watched.head(source.container, KEY) == before
    # Another run, that pulled the same archive, has nothing to push either.
    other = await another(volume)
    await pulled(watched, source, other)
    assert (await pushed(watched, source, other, "RWD")).transferred_bytes == 0
    assert await watched.head(source.container, KEY) == before


async def test_many_parts_that_are_there_already_are_known_again(
    store: Store, source: Source, volume: Path
) -> None:
    write(volume, {"big": os.urandom(CHUNK_BYTES + 5)})
    first = await pushed(store, source, volume)
    assert first.transferred_bytes > CHUNK_BYTES
    volume.with_name("0.manifest.json").unlink()
    assert (await pushed(store, source, volume, "RWD")).transferred_bytes == 0


async def test_rwd_replaces_and_rw_keeps(store: Store, source: Source, volume: Path) -> None:
    await fill(store, source, {KEY: tar({"keep": b"1", "gone": b"2", "d/x": b"3"})})
    await pulled(store, source, volume)
    (volume / "gone").unlink()
    write(volume, {"new": b"4", "keep": b"changed"})
    await pushed(store, source, volume, "RW")
    everything = {"keep": b"changed", "gone": b"2", "d/x": b"3", "new": b"4"}
    assert await stored(store, source) == everything
    assert [path.name for path in volume.parent.glob("*.merge*")] == []
    assert (await pushed(store, source, volume, "RW")).transferred_bytes == 0
    await pushed(store, source, volume, "RWD")
    assert (await stored(store, source)).keys() == {"keep", "d/x", "new"}


async def test_rw_keeps_what_others_pushed_meanwhile(store: Store, source: Source, volume: Path) -> None:
    await fill(store, source, {KEY: tar({"a": b"1"})})
    await pulled(store, source, volume)
    await fill(store, source, {KEY: tar({"a": b"theirs", "b": b"theirs"})})
    write(volume, {"c": b"ours"})
    await pushed(store, source, volume, "RW")
    assert await stored(store, source) == {"a": b"1", "b": b"theirs", "c": b"ours"}


async def test_rw_replaces_no_object_that_is_no_archive(store: Store, source: Source, volume: Path) -> None:
    await fill(store, source, {KEY: b"somebody's notes"})
    write(volume, TREE)
    with pytest.raises(FetchRefused, match="no archive"):
        await pushed(store, source, volume, "RW")
    assert await held(store, source) == {KEY: b"somebody's notes"}


async def test_a_pull_brings_back_what_is_missing_and_leaves_what_the_job_changed(
    store: Store, source: Source, volume: Path
) -> None:
    await fill(store, source, {KEY: tar({"a": b"1", "b": b"2"})})
    await pulled(store, source, volume)
    (volume / "a").unlink()
    write(volume, {"b": b"mine"})
    await pulled(store, source, volume)
    assert files(volume) == {"a": b"1", "b": b"mine"}
    await fill(store, source, {KEY: tar({"a": b"new", "b": b"new"})})
    done = await pulled(store, source, volume)
    assert files(volume) == {"a": b"new", "b": b"mine"}
    assert done.notes == ("b: changed here and in the store, kept as it is here",)


async def test_what_the_archive_no_longer_holds_stays_here_and_is_not_missed(
    store: Store, source: Source, volume: Path
) -> None:
    await fill(store, source, {KEY: tar({"a": b"1", "b": b"2"})})
    await pulled(store, source, volume)
    await fill(store, source, {KEY: tar({"a": b"1"})})
    await pulled(store, source, volume)
    assert files(volume) == {"a": b"1", "b": b"2"}
    (volume / "b").unlink()
    assert (await pulled(store, source, volume)).transferred_bytes == 0


@pytest.mark.parametrize("name", ["../evil", "/evil", "d/../../evil", "a\nb", "x" * 256])
async def test_a_hostile_archive_writes_nothing(
    store: Store, source: Source, volume: Path, name: str
) -> None:
    await fill(store, source, {KEY: tar({"good": b"1", name: b"2"})})
    with pytest.raises(UnsafeKey):
        await pulled(store, source, volume)
    assert files(volume.parent) == {}


async def test_bounds(store: Store, source: Source, volume: Path) -> None:
    packed = tar({"zeros": bytes(10_000_000)}, "w:gz")
    assert len(packed) < 20_000
    await fill(store, source, {KEY: packed, "large.tar": tar({"a": bytes(20_000)})})
    few = Limits(max_objects=10, max_bytes=20_000, max_depth=4)
    for key in (KEY, "large.tar"):
        with pytest.raises(DataError, match="more than 20000 bytes"):
            await pulled(store, source, volume, key, limits=few)
    assert files(volume) == {}


async def test_an_object_that_arrives_damaged_is_asked_for_again(volume: Path) -> None:
    whole = tar({"a": b"1"})
    canned = Canned([KEY], whole, etag="0" * 32)
    async with serving(canned) as access, Store.open(access) as store:
        with pytest.raises(Unavailable, match="arrived damaged"):
            await pulled(store, Source("box"), volume)
    assert files(volume) == {}


@pytest.mark.parametrize("cut", [0.3, 0.99])
async def test_a_cut_archive_is_refused(store: Store, source: Source, volume: Path, cut: float) -> None:
    whole = tar({"a": os.urandom(50_000), "b": b"1"}, "w:gz")
    await fill(store, source, {KEY: whole[: int(len(whole) * cut)]})
    with pytest.raises(FetchRefused, match="damaged"):
        await pulled(store, source, volume)
    assert files(volume) == {}


async def test_a_file_that_changes_while_it_is_packed_is_packed_again(
    store: Store, source: Source, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(volume, {"a": b"1" * 1000})
    changes = 0
    upload = Store.upload

    async def meddled(self: Store, container: str, key: str, stream: object) -> object:
        nonlocal changes
        changes += 1
        if changes == 1:
            raise Unstable
        return await upload(self, container, key, stream)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "upload", meddled)
    await pushed(store, source, volume)
    assert await stored(store, source) == {"a": b"1" * 1000}
    assert changes == 2


def test_a_file_that_changes_under_the_reader_is_noticed(volume: Path) -> None:
    volume.mkdir(parents=True, exist_ok=True)
    write(volume, {"a": b"1" * 600_000})
    pieces = Packing({"a": volume}).stream(compressed=False)
    next(pieces), next(pieces)
    with (volume / "a").open("r+b") as file:
        file.write(b"2")
    with pytest.raises(Unstable):
        list(pieces)


def test_what_is_swapped_for_a_link_is_left_out(volume: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    write(volume, {"a": b"1", "d/b": b"2", "gone": b"3"})
    packing = Packing({"a": volume, "d/b": volume, "gone": volume, "hard": volume})
    (volume / "a").unlink()
    (volume / "a").symlink_to(secret)
    (volume / "d/b").unlink()
    (volume / "d").rmdir()
    (volume / "d").symlink_to(tmp_path)
    (tmp_path / "b").write_bytes(b"secret")
    (volume / "hard").hardlink_to(secret)
    (volume / "gone").unlink()
    data = b"".join(packing.stream(compressed=False))
    assert b"secret" not in data
    assert packing.left_out.keys() == {"a", "d/b", "gone", "hard"}


NAMES = st.text(
    st.characters(exclude_categories=["C"], exclude_characters="/"), min_size=1, max_size=80
).filter(lambda name: name not in (".", "..") and len(name.encode()) <= 255)


@settings(max_examples=40)
@given(contents=st.dictionaries(NAMES, st.binary(max_size=2000), max_size=6), compressed=st.booleans())
def test_any_tree_packs_to_the_same_bytes_whenever(
    tmp_path_factory: pytest.TempPathFactory, contents: dict[str, bytes], compressed: bool
) -> None:
    made = []
    for names in (sorted(contents), sorted(contents, reverse=True)):
        root = tmp_path_factory.mktemp("tree")
        for name in names:
            (root / name).write_bytes(contents[name])
        made.append(b"".join(Packing(dict.fromkeys(names, root)).stream(compressed=compressed)))
    assert made[0] == made[1]
    assert members(made[0]) == contents


@settings(max_examples=30)
@given(
    cuts=st.lists(st.integers(0, 3 * CHUNK_BYTES // 2), max_size=4),
    size=st.sampled_from([0, 5, CHUNK_BYTES, CHUNK_BYTES + 1]),
)
def test_a_digest_knows_the_etag_of_its_parts_however_they_come(cuts: list[int], size: int) -> None:
    data = bytes(size)
    digest = Digest()
    edges = sorted({0, size, *(cut for cut in cuts if cut < size)})
    for start, end in pairwise(edges):
        digest.add(data[start:end])
    parts = [hashlib.md5(data[at : at + CHUNK_BYTES]).digest() for at in range(0, size, CHUNK_BYTES)]
    assert digest.size == size
    assert digest.is_of(hashlib.md5(data).hexdigest())
    assert digest.is_of(f"{hashlib.md5(b''.join(parts)).hexdigest()}-{len(parts)}")
    assert not digest.is_of(hashlib.md5(b"x" + data).hexdigest())

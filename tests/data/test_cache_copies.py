"""What a job gets that may write: a copy of its own, which a push knows as well as what was pulled for it;
and archives and URLs, that are cached unpacked."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import io
import os
import tarfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_network
from pathlib import Path

import pytest

from service.domain import spec
from service.errors import DataError, FetchRefused
from service.supervisor.cache import Archive, Generation, Url
from service.supervisor.cache.copying import copy
from service.supervisor.data import (
    DEFAULT_LIMITS,
    Download,
    Limits,
    Progress,
    Source,
    Store,
    StoreAccess,
    prepare,
)
from service.supervisor.data.archive.push import push_archive
from service.supervisor.data.incoming import Incoming
from service.supervisor.data.model import CHUNK_BYTES
from service.supervisor.data.volume import beneath
from service.supervisor.data.volume.layout import manifest_path, partial_path
from service.supervisor.data.web import Web
from tests.data.caching import Node, Reads, a_run
from tests.data.conftest import QUICK
from tests.data.sync import files, fill, held, pushed, write
from tests.data.test_cache import _full
from tests.data.watched import Watched
from tests.support.https import Site, a_site

FILES = {"a": b"one", "d/b": b"two", "d/e/c": b"three", "empty": b"", "large": os.urandom(CHUNK_BYTES + 5)}


class Both(Reads, Watched):
    """A store that sees what is fetched and what is sent."""


@pytest.fixture
async def both(access: StoreAccess) -> AsyncIterator[Both]:
    async with Both.open(access, QUICK) as opened:
        yield opened


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path / "state")


async def copied(node: Node, generation: Generation) -> Path:
    root = node.volume(a_run())
    await prepare(root)
    await copy(generation, root)
    return root


async def test_a_copy_is_the_jobs_own_in_every_byte(node: Node, both: Both, source: Source) -> None:
    await fill(both, source, FILES)
    generation = (await node.objects(both, source)).generation
    both.read.clear()
    root = await copied(node, generation)
    assert (files(root), both.read) == (FILES, [])
    for path in FILES:
        mine, shared = (root / path).stat(), (generation.files / path).stat()
        assert mine.st_nlink == 1
        assert mine.st_ino != shared.st_ino
        assert mine.st_uid == (beneath.OWNER if os.geteuid() == 0 else os.geteuid())
        assert mine.st_mtime_ns == shared.st_mtime_ns
        (root / path).open("r+b").write(b"X")
    assert files(generation.files) == FILES
    assert not partial_path(root).exists()


async def test_a_push_from_a_copy_moves_what_the_job_changed(node: Node, both: Both, source: Source) -> None:
    await fill(both, source, FILES)
    generation = (await node.objects(both, source)).generation
    root = await copied(node, generation)
    both.sent.clear()
    await pushed(both, source, root)
    assert both.sent == []
    write(root, {"a": b"mine", "new": b"1"})
    (root / "d/b").unlink()
    await pushed(both, source, root, "RWD")
    expected = {k: v for k, v in FILES.items() if k != "d/b"} | {"a": b"mine", "new": b"1"}
    assert sorted(both.sent) == ["a", "new"]
    assert await held(both, source) == expected
    assert files(generation.files) == FILES
    assert files((await node.objects(both, source)).generation.files) == expected


async def test_a_copy_that_was_cut_off_is_completed(
    node: Node, both: Both, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(both, source, FILES)
    generation = (await node.objects(both, source)).generation
    root = node.volume(a_run())
    await prepare(root)
    settle = beneath.settle
    with monkeypatch.context() as patched:
        patched.setattr(beneath, "settle", lambda _: _full())
        with pytest.raises(DataError, match="no space is left"):
            await copy(generation, root)
    assert not manifest_path(root).exists()
    assert beneath.settle is settle
    await copy(generation, root)
    assert files(root) == FILES
    inode = (root / "a").stat().st_ino
    await copy(generation, root)
    assert (root / "a").stat().st_ino == inode, "what is there is left there"
    both.sent.clear()
    await pushed(both, source, root)
    assert both.sent == []


async def test_a_damaged_file_is_not_copied(node: Node, both: Both, source: Source) -> None:
    await fill(both, source, FILES)
    generation = (await node.objects(both, source)).generation
    (generation.files / "a").write_bytes(b"other")
    with pytest.raises(DataError, match="damaged in the cache"):
        await copied(node, generation)


@pytest.mark.parametrize("cannot", [(), ("clone",), ("clone", "range")])
async def test_whatever_the_file_system_can(
    node: Node, both: Both, source: Source, monkeypatch: pytest.MonkeyPatch, cannot: tuple[str, ...]
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    if "clone" in cannot:
        monkeypatch.setattr(fcntl, "ioctl", refuse)
    if "range" in cannot:
        monkeypatch.setattr(os, "copy_file_range", refuse)
    await fill(both, source, FILES)
    root = await copied(node, (await node.objects(both, source)).generation)
    assert files(root) == FILES


# -- archives ---------------------------------------------------------------------------------------------


def tar(contents: dict[str, bytes], *, link: bool = False) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, data in contents.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o755 if data.startswith(b"#!") else 0o644
            archive.addfile(info, io.BytesIO(data))
        if link:
            info = tarfile.TarInfo("link")
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(info)
        folder = tarfile.TarInfo("hollow")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(folder)
    return made.getvalue()


MEMBERS = {"a": b"one", "bin/run": b"#!/bin/sh", "d/b": b"two"}


class Downloads(Both):
    """Also sees archives being fetched."""

    @asynccontextmanager
    async def download(self, container: str, key: str) -> AsyncIterator[Download]:
        self.read.append(key)
        async with super().download(container, key) as found:
            yield found


async def packed(store: Store, source: Source, root: Path) -> None:
    limits = DEFAULT_LIMITS
    await push_archive(
        store, source.container, "x.tgz", root, permission="RWD", limits=limits, on_progress=lambda _: None
    )


async def test_archives(access: StoreAccess, node: Node, source: Source) -> None:
    async with Downloads.open(access, QUICK) as store:
        await fill(store, source, {"x.tgz": tar(MEMBERS, link=True)})

        def origin(limits: Limits = DEFAULT_LIMITS) -> Archive:
            return Archive(store, source.container, "x.tgz", limits)

        old = await node.take(origin())
        assert files(old.generation.files) == MEMBERS
        assert (old.generation.files / "hollow").is_dir()
        again = await node.take(origin())
        assert (store.read, again.generation) == (["x.tgz"], old.generation)
        assert again.progress == Progress(
            total=3, processed=3, skipped=3, total_bytes=15, notes=old.progress.notes
        )
        assert "link" in again.progress.notes[0], "what was left out is told to whoever has it"
        for limits in (Limits(2, 1000, 64), Limits(100, 10, 64)):
            with pytest.raises(DataError, match="more than"):
                await node.take(origin(limits))

        root = await copied(node, old.generation)
        assert (root / "bin/run").stat().st_mode & 0o777 == 0o755
        assert (root / "hollow").is_dir()
        store.sent.clear()
        await packed(store, source, root)
        assert store.sent == []
        write(root, {"a": b"mine"})
        await packed(store, source, root)
        assert store.sent == ["x.tgz"]

        new = await node.take(origin())
        assert files(new.generation.files) == MEMBERS | {"a": b"mine"}
        assert files(old.generation.files) == MEMBERS

        await store.delete_object(source.container, "x.tgz")
        for is_new in (True, False):
            none = await node.take(origin())
            assert (files(none.generation.files), none.is_new) == ({}, is_new)


async def test_an_archive_that_is_none_leaves_nothing(node: Node, store: Store, source: Source) -> None:
    await fill(store, source, {"x": b"text" * 1000})
    with pytest.raises(FetchRefused, match="no archive"):
        await node.take(Archive(store, source.container, "x", DEFAULT_LIMITS))
    assert node.there() == []


async def test_an_archive_that_finds_no_room_on_the_disk(
    node: Node, store: Store, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(store, source, {"x": tar(MEMBERS)})
    monkeypatch.setattr(Incoming, "append", _full)
    with pytest.raises(DataError, match="no space is left"):
        await node.take(Archive(store, source.container, "x", DEFAULT_LIMITS))
    assert node.there() == []


# -- URLs -------------------------------------------------------------------------------------------------


class Page:
    """An archive on the web that has an ETag, and answers 304 as a server should."""

    def __init__(self, site: Site) -> None:
        self.body, self.etag = tar(MEMBERS), '"1"'
        self.said: list[int] = []
        self.headers: list[str | None] = []
        site.answers["/x.tgz"] = self.answer
        self.url = site.url("/x.tgz?key=secret")

    def answer(self, to: BaseHTTPRequestHandler) -> None:
        asked = to.headers.get("If-None-Match")
        self.headers.append(asked)
        status = 304 if asked is not None and asked == self.etag else 200
        self.said.append(status)
        to.send_response(status)
        if self.etag:
            to.send_header("ETag", self.etag)
        if status == 200:
            to.send_header("Content-Length", str(len(self.body)))
        to.end_headers()
        if status == 200:
            to.wfile.write(self.body)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "site").mkdir()
    with a_site(tmp_path / "site") as made:
        yield made


@pytest.fixture
def page(site: Site) -> Page:
    return Page(site)


def origin_of(site: Site, page: Page, limits: Limits = DEFAULT_LIMITS) -> Url:
    async def here(_host: str, _port: int) -> list[str]:
        return ["127.0.0.1"]

    web = Web((ip_network("127.0.0.1/32"),), site.ca, here)
    return Url(web, spec.Web("archive", page.url), limits)


async def test_a_url_is_fetched_again_when_its_etag_is_another(node: Node, site: Site, page: Page) -> None:
    old = await node.take(origin_of(site, page))
    again = await node.take(origin_of(site, page))
    assert (page.said, again.generation, again.is_new) == ([200, 304], old.generation, False)
    assert (again.progress.skipped, again.progress.transferred_bytes) == (3, 0)
    with pytest.raises(DataError, match="more than"):
        await node.take(origin_of(site, page, Limits(2, 1000, 64)))
    page.body, page.etag = tar({"a": b"new"}), 'W/"2"'
    new = await node.take(origin_of(site, page))
    assert (files(new.generation.files), files(old.generation.files)) == ({"a": b"new"}, MEMBERS)
    await node.take(origin_of(site, page))
    assert page.said == [200, 304, 304, 200, 304]
    assert node.there() == ["1", "2"], "nothing is left of looking"


@pytest.mark.parametrize("etag", ["", "bare", '"a" "b"'])
async def test_a_url_without_a_proper_etag_is_fetched_each_time(
    node: Node, site: Site, page: Page, etag: str
) -> None:
    page.etag = etag
    for _ in range(2):
        assert (await node.take(origin_of(site, page))).is_new
    assert page.headers == [None, None]


async def test_a_damaged_generation_is_not_called_unchanged(node: Node, site: Site, page: Page) -> None:
    old = await node.take(origin_of(site, page))
    (old.generation.files / "a").unlink()
    new = await node.take(origin_of(site, page))
    assert (page.said, files(new.generation.files)) == ([200, 200], MEMBERS)


async def test_two_who_want_a_url_at_once_fetch_it_once(node: Node, site: Site, page: Page) -> None:
    first, second = await asyncio.gather(node.take(origin_of(site, page)), node.take(origin_of(site, page)))
    assert (page.said, first.generation) == ([200, 304], second.generation)


async def test_a_server_that_says_unchanged_unasked_is_refused(node: Node, site: Site, page: Page) -> None:
    site.serve("/x.tgz", b"", 304)
    with pytest.raises(FetchRefused, match="answered 304"):
        await node.take(origin_of(site, page))
    assert node.there() == []

"""Repositories of strangers, served by the real git over https: the files come, and nothing else happens."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_network
from pathlib import Path
from threading import Event

import pytest

from service.domain.spec import Web as Source
from service.errors import FetchRefused, Unavailable
from service.supervisor.data.fetch import fetch
from service.supervisor.data.model import Limits
from service.supervisor.data.progress import Progress
from service.supervisor.data.volume import layout
from service.supervisor.data.web import Web
from tests.data.test_unpack import held
from tests.support.https import NAME, Site, a_site, git
from tests.support.waiting import DEADLINE_S, until

LIMITS = Limits(max_objects=100, max_bytes=2_000_000, max_depth=8)
FILES = {"README": b"1", "src/run": b"#!/bin/sh\n"}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "site").mkdir()
    with a_site(tmp_path / "site") as made:
        yield made


def reach(site: Site, stall_s: float = 20.0) -> Web:
    async def names(host: str, port: int) -> list[str]:
        assert host == NAME
        return ["127.0.0.1"]

    return Web((ip_network("127.0.0.1/32"),), site.ca, names, stall_s)


async def pulled(
    site: Site, url: str, volume: Path, limits: Limits = LIMITS, web: Web | None = None
) -> Progress:
    source = Source("git", url)
    return await fetch(web or reach(site), source, volume, limits=limits, on_progress=lambda progress: None)


async def test_the_files_of_a_branch_and_of_a_tag(site: Site, volume: Path) -> None:
    site.repository("r.git", FILES, {"link": "/etc/passwd"})
    work = site.repositories / "r.git.work"
    (work / "README").write_bytes(b"2")
    git(work, "commit", "-q", "-a", "-m", "two")
    git(work, "push", "-q", str(site.repositories / "r.git"), "main")
    done = await pulled(site, site.url("/git/r.git"), volume)
    assert held(volume) == {"README": b"2", "src": None, "src/run": b"#!/bin/sh\n"}
    assert os.access(volume / "src/run", os.X_OK)
    assert done.notes == (f"commit {git(work, 'rev-parse', 'HEAD')}", "link: left out (symbolic link)")
    assert done.transferred_bytes > 0
    assert not layout.partial_path(volume).exists()
    again = await pulled(site, site.url("/git/r.git#v1"), volume)
    assert (held(volume)["README"], again.skipped) == (b"1", 1)


async def test_what_stands_in_a_repository_runs_nothing(site: Site, volume: Path) -> None:
    files = FILES | {
        ".gitattributes": b"* filter=evil\nREADME export-subst\nsecret export-ignore\n",
        ".gitmodules": b'[submodule "s"]\n path = s\n url = https://10.0.0.1/s\n',
        "secret": b"x",
        ".gitconfig": b'[filter "evil"]\n smudge = touch /tmp/evil\n',
    }
    site.repository("r.git", files)
    await pulled(site, site.url("/git/r.git"), volume)
    assert {name for name in held(volume) if name[0] != "."} == {"README", "src", "src/run"}
    assert all("10.0.0.1" not in asked for asked in site.asked)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/git/none.git", "no such repository"),
        ("/git/r.git#gone", "no such branch or tag"),
        ("/git/e.git", "empty"),
    ],
)
async def test_what_is_not_there(site: Site, volume: Path, path: str, why: str) -> None:
    site.repository("r.git", FILES)
    git(site.repositories, "init", "-q", "--bare", "e.git")
    with pytest.raises(FetchRefused, match=why) as refused:
        await pulled(site, site.url(path), volume)
    assert str(volume.parent) not in refused.value.message
    assert held(volume) == {}


@pytest.mark.parametrize(("status", "why"), [(401, "not public"), (403, "not public"), (404, "no such")])
async def test_refusals_of_the_server(site: Site, volume: Path, status: int, why: str) -> None:
    site.serve("/x/info/refs", b"", status, WWW_Authenticate="Basic")
    with pytest.raises(FetchRefused, match=why):
        await pulled(site, site.url("/x"), volume)


async def test_a_server_that_fails_may_do_better_later(site: Site, volume: Path) -> None:
    site.serve("/x/info/refs", b"", 503)
    with pytest.raises(Unavailable, match="503"):
        await pulled(site, site.url("/x"), volume)


async def test_redirects_are_not_followed(site: Site, volume: Path) -> None:
    site.repository("r.git", FILES)
    where = site.url("/git/r.git/info/refs?service=git-upload-pack")
    site.serve("/x/info/refs", b"", 302, Location=where)
    with pytest.raises(FetchRefused, match="moved elsewhere"):
        await pulled(site, site.url("/x"), volume)
    assert len(site.asked) == 1


async def test_it_connects_to_the_checked_address_alone(site: Site, volume: Path) -> None:
    """The name is none that the system knows: only the address that was handed over can have been used."""
    site.repository("r.git", FILES)
    await pulled(site, site.url("/git/r.git"), volume)
    web = Web((), site.ca, _home, 20.0)
    before = len(site.asked)
    source = Source("git", site.url("/git/r.git"))
    with pytest.raises(FetchRefused, match="not a public one"):
        await fetch(web, source, volume, limits=LIMITS, on_progress=lambda progress: None)
    assert len(site.asked) == before


async def _home(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


async def test_an_authority_that_is_not_ours(site: Site, volume: Path) -> None:
    web = Web((ip_network("127.0.0.1/32"),), None, _home, 20.0)
    source = Source("git", site.url("/git/r.git"))
    with pytest.raises(FetchRefused, match="certificate"):
        await fetch(web, source, volume, limits=LIMITS, on_progress=lambda progress: None)


async def test_a_repository_that_the_volume_holds_is_not_too_large_for_being_there_twice(
    site: Site, volume: Path
) -> None:
    """As the clone, and as the archive that is made of it."""
    big = os.urandom(LIMITS.max_bytes * 3 // 4)
    site.repository("r.git", {"big": big})
    await pulled(site, site.url("/git/r.git"), volume)
    assert held(volume) == {"big": big}


@pytest.mark.parametrize("big", [os.urandom(300_000), bytes(300_000)], ids=["cloned", "as its files"])
async def test_a_repository_beyond_the_volume(site: Site, volume: Path, big: bytes) -> None:
    site.repository("r.git", {"big": big})
    with pytest.raises(FetchRefused, match=r"larger than|more than"):
        await pulled(site, site.url("/git/r.git"), volume, Limits(100, 100_000, 8))
    assert held(volume) == {}


@pytest.mark.parametrize("how", ["silent", "cancelled"])
async def test_it_ends_with_its_children(site: Site, volume: Path, how: str) -> None:
    reached, go = Event(), Event()

    def hangs(to: BaseHTTPRequestHandler) -> None:
        reached.set()
        go.wait(60)

    site.answers["/x/info/refs"] = hangs
    web = reach(site, 60.0)
    task = asyncio.create_task(pulled(site, site.url("/x"), volume, web=web))
    await until(reached.is_set, what="git has asked")
    if how == "cancelled":
        task.cancel()
    else:
        waits_no_longer(web)
    ended, _ = await asyncio.wait([task], timeout=DEADLINE_S)
    left = _processes(volume)
    go.set()
    assert ended, f"it waits for {left}"
    with pytest.raises(Unavailable if how == "silent" else asyncio.CancelledError):
        await task
    await until(lambda: not _processes(volume), what="git and its children are gone")
    assert not layout.partial_path(volume).exists()


def waits_no_longer(web: Web) -> None:
    """Silence is enough from now on; what comes before it, a busy machine takes its time for."""
    object.__setattr__(web, "stall_s", 0.5)


def _processes(volume: Path) -> list[str]:
    """Living processes that name the volume."""
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = each.read_bytes()
        except OSError:
            continue  # it ended just now
        if str(volume).encode() in words:
            found.append(words.decode(errors="replace"))
    return found

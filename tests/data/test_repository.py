"""Repositories behind a login, by real servers: git over https with Basic authentication, and sshd."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_network
from pathlib import Path

import pytest

from service.domain.gitstores import BasicLogin, GitEndpoint, GitLogin, SshLogin, read_git_endpoint
from service.errors import FetchDenied, FetchMissing, FetchRefused, HostKeyRefused, Misconfigured, Unavailable
from service.supervisor.data.git import check as git_check
from service.supervisor.data.git.reach import Remote
from service.supervisor.data.git.repository import fetch_repository
from service.supervisor.data.model import Limits
from service.supervisor.data.progress import Progress
from service.supervisor.data.volume import layout
from service.supervisor.data.web import Web
from tests.data.test_git import waits_no_longer
from tests.data.test_unpack import held
from tests.support.https import NAME, Site, a_site
from tests.support.spying import spied
from tests.support.sshd import Sshd, an_sshd, key_pair
from tests.support.waiting import until

LIMITS = Limits(max_objects=100, max_bytes=2_000_000, max_depth=8)
FILES = {"README": b"1", "src/a": b"a", "src/lib/b": b"b", "srx": b"x"}
LOGIN = BasicLogin("ada", "s3cret:p%40ss'w\"örd $x")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "site").mkdir()
    with a_site(tmp_path / "site") as made:
        made.login = (LOGIN.username, LOGIN.password)
        made.repository("team/r.git", FILES)
        yield made


@pytest.fixture
async def sshd(tmp_path: Path, site: Site) -> AsyncIterator[Sshd]:
    (tmp_path / "sshd").mkdir()
    async with an_sshd(tmp_path / "sshd", site.repositories) as made:
        yield made


def reach(site: Site, stall_s: float = 20.0, *addresses: str) -> Web:
    async def names(host: str, port: int) -> list[str]:
        return list(addresses) or ["127.0.0.1"]

    return Web((ip_network("127.0.0.0/8"),), site.ca, names, stall_s)


def https(site: Site, login: GitLogin | None = LOGIN, repository: str = "team/r.git") -> Remote:
    return Remote.of_store(read_git_endpoint("endpoint", site.url("/private")), repository, None, login)


def ssh_login(sshd: Sshd) -> SshLogin:
    return SshLogin(sshd.client.private, (sshd.host.public,))


def ssh(sshd: Sshd, login: GitLogin | None = None, repository: str = "team/r.git") -> Remote:
    endpoint = read_git_endpoint("endpoint", sshd.endpoint)
    return Remote.of_store(endpoint, repository, None, login or ssh_login(sshd))


async def pulled(
    web: Web, remote: Remote, volume: Path, prefix: str = "", limits: Limits = LIMITS
) -> Progress:
    return await fetch_repository(
        web, remote, prefix, volume, limits=limits, on_progress=lambda progress: None
    )


@pytest.mark.parametrize("way", ["https", "ssh"])
async def test_what_a_prefix_brings(site: Site, sshd: Sshd, tmp_path: Path, way: str) -> None:
    remote = https(site) if way == "https" else ssh(sshd)
    for prefix, names in (
        ("", {"README", "src", "src/a", "src/lib", "src/lib/b", "srx"}),
        ("src/", {"a", "lib", "lib/b"}),
        ("sr", {"src", "src/a", "src/lib", "src/lib/b", "srx"}),
        ("src/li", {"lib", "lib/b"}),
        ("src/lib/b", {"b"}),
    ):
        volume = tmp_path / f"volume-{len(names)}-{len(prefix)}"
        await layout.prepare(volume)
        done = await pulled(reach(site), remote, volume, prefix)
        assert set(held(volume)) == names, prefix
        assert done.notes[0].startswith("commit ")
        assert not layout.partial_path(volume).exists()
    again = await pulled(reach(site), replace(remote, ref="v1"), volume, "src/lib/b")
    assert (again.skipped, again.total) == (1, 1)  # of another place, and compared with what is there


@pytest.mark.parametrize("way", ["https", "ssh"])
async def test_what_is_not_there(site: Site, sshd: Sshd, volume: Path, way: str) -> None:
    for repository, ref, prefix, why in (
        ("none", None, "", "no such repository"),
        ("team/r.git", "gone", "", "no such branch or tag"),
        ("team/r.git", None, "nowhere/", "no such folder"),
        ("team/r.git", None, "srz", "no file whose path begins with srz"),
        ("team/r.git", None, "README/", "whose path begins with README/"),
    ):
        remote = https(site, LOGIN, repository) if way == "https" else ssh(sshd, None, repository)
        with pytest.raises(FetchMissing, match=why):
            await pulled(reach(site), replace(remote, ref=ref), volume, prefix)
        assert held(volume) == {}


async def test_who_is_not_let_in(site: Site, volume: Path) -> None:
    for login, why in (
        (BasicLogin("ada", "wrong"), "the user and this password were refused"),
        (BasicLogin("eve", LOGIN.password), "the user and this password were refused"),
        (None, "it asks for a user and a password, and the data store has none"),
    ):
        with pytest.raises(FetchDenied, match=why) as denied:
            await pulled(reach(site), https(site, login), volume)
        assert "wrong" not in denied.value.message


async def test_another_key_is_not_let_in(site: Site, sshd: Sshd, volume: Path) -> None:
    stranger = SshLogin(key_pair().private, (sshd.host.public,))
    with pytest.raises(FetchDenied, match="the user and this key were refused"):
        await pulled(reach(site), ssh(sshd, stranger), volume)


async def test_another_server_is_told_nothing(site: Site, sshd: Sshd, volume: Path) -> None:
    login = ssh_login(sshd)
    await sshd.change_host_key()
    with pytest.raises(HostKeyRefused, match="host key that is not known"):
        await pulled(reach(site), ssh(sshd, login), volume)
    assert "publickey" not in sshd.log()
    both = SshLogin(login.private_key, (*login.host_keys, sshd.host.public))
    assert (await pulled(reach(site), ssh(sshd, both), volume)).completed == len(FILES)


async def test_a_password_goes_to_its_own_server_alone(site: Site, volume: Path, tmp_path: Path) -> None:
    """Not to one that the server leads to, nor to one of another port."""
    (tmp_path / "other").mkdir()
    with a_site(tmp_path / "other") as other:
        seen: list[str | None] = []

        def asks(to: BaseHTTPRequestHandler) -> None:
            seen.append(to.headers.get("Authorization"))
            to.send_response(401)
            to.send_header("WWW-Authenticate", 'Basic realm="x"')
            to.send_header("Content-Length", "0")
            to.end_headers()

        for each in (site, other):
            each.answers["/private/x/info/refs"] = asks
        with pytest.raises(FetchDenied):
            await pulled(reach(site), https(site, LOGIN, "x"), volume)
        assert len(seen) == 2 and seen[0] is None and seen[1] is not None
        seen.clear()
        elsewhere = https(other, LOGIN, "x")
        with pytest.raises(FetchDenied):
            await pulled(reach(other), replace(elsewhere, base=https(site).base), volume)
        assert seen == [None]
        seen.clear()
        where = other.url("/private/x/info/refs?service=git-upload-pack")
        site.serve("/private/y/info/refs", b"", 302, Location=where)
        with pytest.raises(FetchMissing, match="moved elsewhere"):
            await pulled(reach(site), https(site, LOGIN, "y"), volume)
        assert seen == []


async def test_what_a_server_says_does_not_bring_the_password_out(site: Site, volume: Path) -> None:
    text = f"ERR fatal: {LOGIN.password}".encode()
    pkt = f"{len(text) + 4:04x}".encode() + text

    def echoes(to: BaseHTTPRequestHandler) -> None:
        body = b"001e# service=git-upload-pack\n0000" + pkt
        to.send_response(200)
        to.send_header("Content-Type", "application/x-git-upload-pack-advertisement")
        to.send_header("Content-Length", str(len(body)))
        to.end_headers()
        to.wfile.write(body)

    site.answers["/private/x/info/refs"] = echoes
    with pytest.raises(FetchRefused) as refused:
        await pulled(reach(site), https(site, LOGIN, "x"), volume)
    assert "fatal: …" in refused.value.message


@pytest.mark.parametrize("way", ["https", "ssh"])
async def test_keys_are_in_no_argument_variable_or_file(
    site: Site, sshd: Sshd, volume: Path, tmp_path: Path, way: str
) -> None:
    """Looked at while git, its helpers and ssh run: they hang at a server that holds its answer back."""
    reached, go = site.hold_logins("/private/x/info/refs")
    if way == "https":
        remote, secret = https(site, LOGIN, "x"), LOGIN.password.encode()
        shows = reached.is_set
        names = {"git", "git-remote-http"}
    else:
        sshd.hold()
        remote, secret = ssh(sshd), sshd.client.private.splitlines()[2].encode()
        shows = sshd.is_held
        names = {"git", "ssh"}
    task = asyncio.create_task(pulled(reach(site), remote, volume))
    try:
        await until(shows, what="the login was taken")
        seen = spied(layout.partial_path(volume))
        assert names <= {each.name for each in seen}, seen
        for each in seen:
            assert secret not in each.words + each.variables, each.name
        files = [path for path in volume.parent.rglob("*") if path.is_file() and "site" not in path.parts]
        ours = [path for path in files if "sshd" not in path.relative_to(tmp_path).parts]
        assert not [path for path in ours if secret in path.read_bytes()]
    finally:
        go.set()
        sshd.let_go()
        await asyncio.gather(task, return_exceptions=True)
    await until(lambda: not spied(layout.partial_path(volume)), what="git and its children are gone")


@pytest.mark.parametrize("silent", [True, False])
async def test_ssh_ends_with_the_call(site: Site, sshd: Sshd, volume: Path, silent: bool) -> None:
    """When nothing comes for long, and when the call is cancelled."""
    sshd.hold()
    web = reach(site, 60.0)
    task = asyncio.create_task(pulled(web, ssh(sshd), volume))
    await until(sshd.is_held, what="the login was taken")
    if silent:
        waits_no_longer(web)
    else:
        task.cancel()
    with pytest.raises(Unavailable if silent else asyncio.CancelledError):
        await task
    await until(lambda: not spied(layout.partial_path(volume)), what="git and its children are gone")
    assert not layout.partial_path(volume).exists()
    sshd.let_go()


async def test_a_node_without_ssh_says_so(
    site: Site, sshd: Sshd, volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("git", "setpriv", "sh"):
        found = shutil.which(name)
        assert found is not None
        (tmp_path / "bin" / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(Misconfigured, match="the program ssh is missing on the node"):
        await pulled(reach(site), ssh(sshd), volume)
    with pytest.raises(Unavailable, match="the program ssh is missing on the node"):
        await git_check.check(reach(site), endpoint_of(ssh(sshd)), ssh_login(sshd))


async def test_only_addresses_that_were_checked_are_connected_to(
    site: Site, sshd: Sshd, volume: Path
) -> None:
    named = ssh(sshd)
    named = replace(named, at=named.at._replace(host=NAME), url=named.url.replace("127.0.0.1", NAME))
    await pulled(reach(site), named, volume)  # the name is none that the system knows
    home = Web((), site.ca, reach(site).resolve)
    before = sshd.log().count("Connection from")
    for remote in (named, https(site)):
        with pytest.raises(FetchRefused, match="not a public one"):
            await pulled(home, remote, volume)
    assert sshd.log().count("Connection from") == before
    assert site.asked == []


async def test_of_several_addresses_one_that_answers_is_taken(site: Site, sshd: Sshd, volume: Path) -> None:
    await pulled(reach(site, 20.0, "127.0.0.9", "127.0.0.1"), ssh(sshd), volume)
    with pytest.raises(Unavailable, match="none of its 2 addresses"):
        await pulled(reach(site, 20.0, "127.0.0.9", "127.0.0.8"), ssh(sshd), volume)


async def test_a_server_that_is_down_may_come_back(site: Site, sshd: Sshd, volume: Path) -> None:
    remote = ssh(sshd)
    sshd.stop()
    with pytest.raises(Unavailable, match="refused"):
        await pulled(reach(site), remote, volume)


async def test_a_repository_beyond_the_volume(site: Site, sshd: Sshd, volume: Path) -> None:
    site.repository("big.git", {"big": os.urandom(300_000), "small/s": b"s"})
    for remote in (https(site, LOGIN, "big.git"), ssh(sshd, None, "big.git")):
        with pytest.raises(FetchRefused, match=r"larger than|more than"):
            await pulled(reach(site), remote, volume, "small/", Limits(100, 100_000, 8))
    assert held(volume) == {}


def endpoint_of(remote: Remote) -> GitEndpoint:
    path = remote.at.path
    user = "" if remote.scheme == "https" else remote.url.partition("://")[2].partition("@")[0]
    return GitEndpoint(remote.scheme, remote.at.host, remote.at.port, path, user)


async def test_asking_a_server_when_a_store_is_added(site: Site, sshd: Sshd) -> None:
    web = reach(site)
    at, ssh_at = endpoint_of(https(site)), endpoint_of(ssh(sshd))
    assert await git_check.check(web, at, LOGIN) == ()
    assert await git_check.check(web, at, None) == ()  # it asks for a login: there may be public ones beside
    with pytest.raises(FetchDenied, match="password were refused"):
        await git_check.check(web, at, BasicLogin("ada", "wrong"))
    login = SshLogin(sshd.client.private)
    assert await git_check.check(web, ssh_at, login) == (sshd.host.public,)
    assert await git_check.check(web, ssh_at, ssh_login(sshd)) == (sshd.host.public,)
    with pytest.raises(FetchDenied, match="key were refused"):
        await git_check.check(web, ssh_at, SshLogin(key_pair().private))
    with pytest.raises(HostKeyRefused):
        await git_check.check(web, ssh_at, SshLogin(sshd.client.private, (key_pair().public,)))
    for each, one in ((at, LOGIN), (ssh_at, login)):
        with pytest.raises(FetchRefused, match="not a public one"):
            await git_check.check(Web((), site.ca, web.resolve), each, one)
    with pytest.raises(FetchRefused, match="certificate"):
        await git_check.check(replace(web, ca=None), at, LOGIN)
    sshd.stop()
    with pytest.raises(Unavailable):
        await git_check.check(web, ssh_at, login)

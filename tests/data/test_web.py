"""Fetching what a user named: from public addresses only, hop by hop, bounded; a real https server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_network
from pathlib import Path
from threading import Event

import pytest

from service.errors import FetchRefused, JobyardError, Unavailable
from service.outward.addresses import checked, may_connect
from service.supervisor.data.web import Web, download
from tests.support.https import NAME, Site, a_site
from tests.support.waiting import DEADLINE_S

LOOPBACK = (ip_network("127.0.0.1/32"),)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "site").mkdir()
    with a_site(tmp_path / "site") as made:
        yield made


class Names:
    """A resolver that answers one thing after the other."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def web(site: Site, *answers: list[str], stall_s: float = 20.0) -> Web:
    return Web(LOOPBACK, site.ca, Names(*(answers or (["127.0.0.1"],))), stall_s)


async def get(web: Web, url: str, to: Path, max_bytes: int = 1000) -> bytes:
    await download(web, url, to / "got", max_bytes=max_bytes, on_bytes=lambda more, expected: None)
    return (to / "got").read_bytes()


@pytest.mark.parametrize(
    "text",
    [
        *("127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *("224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.0.192", "168.63.129.16", "198.18.0.1"),
        *("::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1"),
        *("::ffff:10.0.0.1", "::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::"),
        *("64:ff9b:1::1", "3fff::1", "not an address", ""),
    ],
)
def test_addresses_that_are_not_public(text: str) -> None:
    assert not may_connect(text)


@pytest.mark.parametrize("text", ["8.8.8.8", "2606:4700::1", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_addresses_that_are(text: str) -> None:
    assert may_connect(text)


def test_a_network_that_is_allowed_is_allowed_in_each_guise_and_alone() -> None:
    allow = (ip_network("10.1.0.0/16"),)
    assert may_connect("10.1.2.3", allow)
    assert may_connect("::ffff:10.1.2.3", allow)
    assert not may_connect("10.2.0.1", allow)


async def test_one_bad_address_among_good_ones_refuses_the_host() -> None:
    with pytest.raises(FetchRefused, match=r"10\.0\.0\.1"):
        await checked("h.example", 443, (), Names(["8.8.8.8", "10.0.0.1"]))


async def test_a_file_comes_whole(site: Site, tmp_path: Path) -> None:
    assert await get(web(site), site.serve("/a.tar", b"bytes"), tmp_path) == b"bytes"


async def test_a_name_that_changes_its_mind_is_looked_up_once_a_hop(site: Site, tmp_path: Path) -> None:
    names = Names(["127.0.0.1"], ["127.0.0.9"])
    site.serve("/a.tar", b"bytes")
    assert await get(Web(LOOPBACK, site.ca, names), site.url("/a.tar"), tmp_path) == b"bytes"
    assert names.asked == [NAME]
    site.serve("/r", b"", 302, Location="/a.tar")
    with pytest.raises(FetchRefused, match="not a public one"):
        await get(web(site, ["127.0.0.1"], ["127.0.0.9"]), site.url("/r"), tmp_path)
    assert site.asked == ["/a.tar", "/r"]


async def test_the_proxy_of_the_environment_is_not_used(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert await get(web(site), site.serve("/a.tar", b"bytes"), tmp_path) == b"bytes"


async def test_redirects_are_followed_five_times_and_no_more(site: Site, tmp_path: Path) -> None:
    for n in range(6):
        site.serve(f"/{n}", b"", 302, Location=f"/{n + 1}")
    site.serve("/6", b"there")
    assert await get(web(site), site.url("/1"), tmp_path) == b"there"
    with pytest.raises(FetchRefused, match="more than 5 times"):
        await get(web(site), site.url("/0"), tmp_path)


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("http://source.test/a", "no https URL"),
        ("file:///etc/passwd", "no https URL"),
        ("https://user:pw@source.test/a", "no https URL"),
        ("https://2130706433/a", "no https URL"),
        ("https://10.0.0.1/a", "not a public one"),
        ("https://[::1]/a", "not a public one"),
        ("", "no https URL|more than 5"),
    ],
)
async def test_redirects_that_lead_astray(site: Site, tmp_path: Path, where: str, why: str) -> None:
    async def names(host: str, port: int) -> list[str]:
        return ["127.0.0.1"] if host == NAME else [host]

    url = site.serve("/r", b"", 302, Location=where)
    with pytest.raises(FetchRefused, match=why) as refused:
        await get(Web(LOOPBACK, site.ca, names), url, tmp_path)
    assert "pw" not in refused.value.message


async def test_a_name_that_leads_home_is_never_asked(site: Site, tmp_path: Path) -> None:
    with pytest.raises(FetchRefused, match=r"127\.0\.0\.1, which is not a public one"):
        await get(Web((), site.ca, Names(["127.0.0.1"])), site.serve("/a", b""), tmp_path)
    assert site.asked == []


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, FetchRefused), (404, FetchRefused), (204, FetchRefused), (429, Unavailable), (503, Unavailable)],
)
async def test_statuses(site: Site, tmp_path: Path, status: int, kind: type[JobyardError]) -> None:
    with pytest.raises(kind, match=str(status)):
        await get(web(site), site.serve("/a", b"", status), tmp_path)


async def test_interim_answers_are_taken_up_to_a_bound(site: Site, tmp_path: Path) -> None:
    def hinting(count: int) -> str:
        def answer(to: BaseHTTPRequestHandler) -> None:
            to.wfile.write(b"HTTP/1.1 103 Early Hints\r\n\r\n" * count)
            to.send_response(200)
            to.end_headers()
            to.wfile.write(b"bytes")

        site.answers[f"/{count}"] = answer
        return site.url(f"/{count}")

    assert await get(web(site), hinting(16), tmp_path) == b"bytes"
    with pytest.raises(Unavailable, match="cut short"):
        await get(web(site), hinting(17), tmp_path)


async def test_the_authority_and_the_name_are_verified(site: Site, tmp_path: Path) -> None:
    site.serve("/a", b"bytes")
    with pytest.raises(FetchRefused, match="certificate"):
        await get(Web(LOOPBACK, None, Names(["127.0.0.1"])), site.url("/a"), tmp_path)
    with pytest.raises(FetchRefused, match="certificate"):
        await get(web(site), site.url("/a", "other.test"), tmp_path)
    assert site.asked == []


async def test_sizes_are_bounded_said_or_not(site: Site, tmp_path: Path) -> None:
    url = site.serve("/a", b"x" * 1001)
    with pytest.raises(FetchRefused, match="has 1001 bytes"):
        await get(web(site), url, tmp_path)

    def unsaid(to: BaseHTTPRequestHandler) -> None:
        to.send_response(200)
        to.end_headers()
        to.wfile.write(b"x" * 1001)

    site.answers["/b"] = unsaid
    with pytest.raises(FetchRefused, match="more than 1000"):
        await get(web(site), site.url("/b"), tmp_path)


async def test_a_body_that_is_cut_short(site: Site, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cut short"):
        await get(web(site), site.serve("/a", b"x" * 10, Content_Length="20"), tmp_path)


async def test_a_server_that_trickles_is_as_good_as_silent(site: Site, tmp_path: Path) -> None:
    done = Event()

    def trickle(to: BaseHTTPRequestHandler) -> None:
        to.send_response(200)
        to.end_headers()
        while not done.wait(0.02):
            to.wfile.write(b"x")

    site.answers["/a"] = trickle
    try:
        with pytest.raises(Unavailable, match=r"sent fewer than 65536 bytes in 0\.3 s"):
            async with asyncio.timeout(DEADLINE_S):
                await get(web(site, stall_s=0.3), site.url("/a"), tmp_path, 10**9)
    finally:
        done.set()

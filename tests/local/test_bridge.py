"""The bridge of an own dockerd keeps its addresses; it goes with what Docker cut from them, and no more."""

from __future__ import annotations

import asyncio
import fcntl
import json
import subprocess
from collections.abc import Callable, Iterator
from ipaddress import IPv4Network
from pathlib import Path
from uuid import uuid4

import pytest

from service.local import bridge
from service.local.bridge import Bridge
from tests.support.waiting import until


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def _stands(link: str) -> bool:
    return Path(f"/sys/class/net/{link}").exists()


def _project(of: Bridge) -> str:
    """The address of the first network that dockerd cuts from the pool."""
    return f"{list(of.subnet.subnets(1))[1].network_address + 1}/24"


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "network.json"


@pytest.fixture
def name() -> Iterator[str]:
    made = f"jy-{uuid4().hex[:8]}"
    yield made
    if _stands(made):
        _ip("link", "delete", made)


@pytest.fixture
def link() -> Iterator[Callable[[str, str], str]]:
    """Makes a bridge of this prefix with this address."""
    made: list[str] = []

    def make(prefix: str, address: str) -> str:
        made.append(f"{prefix}-{uuid4().hex[:12]}"[:15])
        _ip("link", "add", made[-1], "type", "bridge")
        _ip("addr", "add", address, "dev", made[-1])
        _ip("link", "set", made[-1], "up")
        return made[-1]

    yield make
    for each in filter(_stands, made):
        _ip("link", "delete", each)


Link = Callable[[str, str], str]


def test_the_networks_of_projects_do_not_drive_their_own_bridge_away(
    name: str, record: Path, link: Link
) -> None:
    """After a kill of dockerd they still stand, with containers in them, while the next one is started."""
    first = bridge.ensure(name, record)
    project = link("br", _project(first))
    assert bridge.ensure(name, record) == first  # even if dockerd was killed before it was in its store
    _ip("link", "delete", name)
    assert bridge.ensure(name, record, ours=[project]) == first
    bridge.remove(name, record, ours=[project, "br-0123456789ab"])
    assert not _stands(name) and not _stands(project)


def test_addresses_are_taken_again_while_they_are_nobodys(name: str, record: Path) -> None:
    first = bridge.ensure(name, record)
    bridge.remove(name, record)
    record.write_bytes(record.read_bytes().replace(str(first.subnet).encode(), b"172.31.0.0/16"))
    again = bridge.ensure(name, record)
    assert again == Bridge(name, IPv4Network("172.31.0.0/16"))  # not the one that its name would choose
    bridge.remove(name, record)
    assert not _stands(name)


def test_addresses_that_another_took_meanwhile_are_given_up(name: str, record: Path, link: Link) -> None:
    first = bridge.ensure(name, record)
    bridge.remove(name, record)
    link("x", f"{first.subnet.network_address + 1}/24")
    moved = bridge.ensure(name, record)
    assert not moved.subnet.overlaps(first.subnet) and moved.left == first.subnet


def test_another_yards_project_drives_us_away_once_our_bridge_is_gone(
    name: str, record: Path, link: Link
) -> None:
    first = bridge.ensure(name, record)
    bridge.remove(name, record)
    link("br", _project(first))
    assert bridge.ensure(name, record).left == first.subnet


def test_of_another_yard_nothing_is_removed(name: str, record: Path, link: Link, tmp_path: Path) -> None:
    """Whose record names the same /16: from before, of a state directory that was copied, removed already."""
    first = bridge.ensure(name, record)
    project = link("br", _project(first))
    other, copied = f"jy-{uuid4().hex[:8]}", tmp_path / "copied.json"
    copied.write_bytes(record.read_bytes())
    stale = tmp_path / "stale.json"
    stale.write_text(json.dumps({"bridge": other, "subnet": str(first.subnet)}))
    for theirs in (stale, copied, stale):
        bridge.remove(other, theirs)
    assert _stands(name) and _stands(project)
    assert bridge.ensure(name, record) == first


def test_what_is_removed_is_not_looked_for_again(name: str, record: Path, link: Link) -> None:
    bridge.ensure(name, record)
    bridge.remove(name, record)
    bridge.ensure(name, record.with_name("another.json"))
    bridge.remove(name, record)
    assert _stands(name)


def test_a_bridge_with_other_addresses_than_recorded_is_left(name: str, record: Path) -> None:
    first = bridge.ensure(name, record)
    _ip("-4", "addr", "flush", "dev", name)
    _ip("addr", "add", f"{first.subnet.network_address + 2}/24", "dev", name)
    bridge.remove(name, record)
    assert _stands(name)


async def test_who_removes_waits_for_who_chooses(
    name: str, record: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge.ensure(name, record)
    lock = tmp_path / "lock"
    monkeypatch.setattr(bridge, "_LOCK", lock)
    with lock.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        removing = asyncio.create_task(asyncio.to_thread(bridge.remove, name, record))
        inode = f":{lock.stat().st_ino} "

        def waits() -> bool:
            locks = Path("/proc/locks").read_text().splitlines()
            return removing.done() or any("->" in each and inode in each for each in locks)

        await until(waits, what="the removal at the lock")
        assert _stands(name) and not removing.done()
    await removing
    assert not _stands(name)


def test_names_spread_over_all_candidates() -> None:
    chosen = {bridge._choose(f"jy-{number:08x}", []) for number in range(4000)}
    assert len(chosen) == 192


@pytest.mark.parametrize("text", ["", "{", "[]", '{"bridge":"x"}', '{"bridge":"x","subnet":"y"}'])
def test_a_record_that_says_nothing_is_made_anew(name: str, record: Path, text: str) -> None:
    """As one that a kill left empty, of a version that did not write it whole."""
    first = bridge.ensure(name, record)
    record.write_text(text)
    assert bridge.ensure(name, record) == first
    assert json.loads(record.read_text())["bridge"] == name
    record.write_text(text)
    bridge.remove(name, record)
    assert _stands(name), "nobody says whose it is"


def test_a_route_for_half_of_all_addresses_is_nobodys_network(
    name: str, record: Path, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A VPN has two in place of a default route."""
    told = bridge._ip

    def ip(*words: str) -> str:
        said = told(*words)
        if "route" not in words:
            return said
        halves = [{"dst": half, "dev": "tun0"} for half in ("0.0.0.0/1", "128.0.0.0/1")]
        return json.dumps([*json.loads(said), *halves])

    monkeypatch.setattr(bridge, "_ip", ip)
    assert bridge.ensure(name, record).subnet.prefixlen == 16

"""The network bridge of an own dockerd, and addresses that nobody else on this machine uses.

Several state directories may each run a dockerd. Each gets a /16: the bridge takes its first /24, the
second half is the pool from which dockerd cuts the networks of projects.

An address says nothing about whose a link is: a /16 that was given up is soon another's. Ours are the bridge
that bears our name and the address that we recorded, and the links that our dockerd's own store names.
"""

from __future__ import annotations

import fcntl
import hashlib
import ipaddress
import json
import os
import re
import subprocess
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Network
from pathlib import Path

import msgspec

from service.errors import Misconfigured
from service.local import places, processes

_LOCK = Path("/run/jobyard-bridges.lock")  # two runs that choose at once must not choose the same
#: A route for so much of all addresses is nobody's network: a VPN has 0.0.0.0/1 and 128.0.0.0/1, in place of
#: a default route.
_NO_NETWORK = 8
_LINK = re.compile(rb'"BridgeName":"(br-[0-9a-f]{12})"')


@dataclass(frozen=True)
class Bridge:
    """`name` of the link (15 letters at most) and the /16 that is its and its networks'."""

    name: str
    subnet: IPv4Network
    left: IPv4Network | None = None  # the /16 of the run before, which somebody else has taken

    @property
    def address(self) -> str:
        return f"{self.subnet.network_address + 1}/24"

    @property
    def pool(self) -> str:
        """As dockerd's --default-address-pool wants it: 128 networks of 254 addresses."""
        return f"base={list(self.subnet.subnets(1))[1]},size=24"


@dataclass(frozen=True)
class _Record:
    """What network.json says. `removed`: nothing of it stands; the /16 is only the one to ask for again."""

    bridge: str
    subnet: IPv4Network
    removed: bool = False

    def stands(self) -> bool:
        """Whether the bridge is there with our address: then nobody else has taken the /16."""
        here = Bridge(self.bridge, self.subnet)
        return not self.removed and _exists(self.bridge) and here.address in _addresses(self.bridge)

    def keep(self, path: Path) -> None:
        fields = {"bridge": self.bridge, "subnet": str(self.subnet)}
        text = msgspec.json.encode(fields | ({"removed": "yes"} if self.removed else {})).decode()
        places.write_whole(path, text)


def links_of(data: Path) -> frozenset[str]:
    """The links of all networks that the dockerd of this data root has made; it need not run.

    Ids of networks are random, so no two engines name one link. The store is bbolt's: read as bytes, it also
    names networks that are gone, which were nobody else's either.
    """
    store = data / "network" / "files" / "local-kv.db"
    return (
        frozenset(name.decode() for name in _LINK.findall(store.read_bytes()))
        if store.exists()
        else frozenset()
    )


def ensure(name: str, record: Path, *, ours: Collection[str] = ()) -> Bridge:
    """Makes the bridge `name`, or takes the one that stands. `record` keeps its subnet for the next run,
    which takes it again unless somebody else has it by then. `ours` are the links of our networks, as
    `links_of` tells them.

    Raises Misconfigured if the machine has no free private /16 or does not let us make a bridge.
    """
    with _locked():
        before = _read(record)
        kept = before.subnet if before else None
        used = list(_used_networks(name, ours, before))
        if kept is None or any(kept.overlaps(other) for other in used):
            kept = _choose(name, used)
        bridge = Bridge(name, kept, left=before.subnet if before and before.subnet != kept else None)
        # First the record: whoever cleans up after a kill finds the link by it.
        _Record(name, kept).keep(record)
        if not _exists(name):
            _ip("link", "add", name, "type", "bridge")
        if bridge.address not in _addresses(name):
            _ip("-4", "addr", "flush", "dev", name)
            _ip("addr", "add", bridge.address, "dev", name)
        _ip("link", "set", name, "up")
    return bridge


def remove(name: str, record: Path, *, ours: Collection[str] = ()) -> None:
    """Takes away the bridge `name` that ensure() noted in `record`, the links `ours` of networks, and what
    dockerd left in iptables for them. Done once: what is recorded as removed is not looked for again.

    Of a record that is another's, or whose bridge is gone or has another address, nothing is touched but
    `ours`: the /16 may be somebody else's by now.
    """
    if not record.exists():
        return
    with _locked():
        before = _read(record)
        if before is None or before.removed or before.bridge != name:
            return
        for link in [*([name] if before.stands() else []), *filter(_exists, sorted(ours))]:
            _ip("link", "delete", link)
            _forget_rules(link)
        replace(before, removed=True).keep(record)


@contextmanager
def _locked() -> Iterator[None]:
    with _LOCK.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _forget_rules(link: str) -> None:
    for table in ("nat", "filter", "raw"):
        for rule in _run("iptables", "-w", "-t", table, "-S").stdout.splitlines():
            if rule.startswith("-A ") and link in rule.split():
                _run("iptables", "-w", "-t", table, "-D", *rule.split()[1:])


def _read(record: Path) -> _Record | None:
    """None also for a record that says nothing, as an empty one: it only says which /16 to ask for first."""
    try:
        found = msgspec.json.decode(record.read_bytes(), type=dict[str, str])
        return _Record(found["bridge"], IPv4Network(found["subnet"]), removed="removed" in found)
    except (FileNotFoundError, ValueError, KeyError):  # msgspec's errors are ValueErrors
        return None


def _choose(name: str, used: list[IPv4Network]) -> IPv4Network:
    candidates = [IPv4Network(f"10.{second}.0.0/16") for second in range(64, 256)]
    # Spread evenly, so that histories rarely collide.
    offset = int.from_bytes(hashlib.sha256(name.encode()).digest()) % len(candidates)
    candidates = candidates[offset:] + candidates[:offset]
    candidates += [IPv4Network(f"172.{second}.0.0/16") for second in range(18, 32)]
    for candidate in candidates:
        if not any(candidate.overlaps(other) for other in used):
            return candidate
    raise Misconfigured("every private /16 network is in use here: set DOCKER_HOST to an engine that runs")


def _used_networks(name: str, ours: Collection[str], before: _Record | None) -> Iterator[IPv4Network]:
    """The networks of others. What Docker cut for our projects is no other's, and must be kept, as their
    containers outlive a dockerd that was killed. While our bridge stands, all that is cut from its pool is
    ours, even a network that dockerd was killed at making, before it was in the store."""
    pool = list(before.subnet.subnets(1))[1] if before and before.bridge == name and before.stands() else None
    for route in json.loads(_ip("-j", "-4", "route", "show", "table", "all")):
        link, text = str(route.get("dev")), route["dst"]
        if link == name or link in ours or text == "default":
            continue
        network = ipaddress.IPv4Network(text, strict=False)
        if network.prefixlen < _NO_NETWORK:
            continue
        if pool is None or not (link.startswith("br-") and network.subnet_of(pool)):
            yield network


def _exists(link: str) -> bool:
    return Path(f"/sys/class/net/{link}").exists()


def _addresses(name: str) -> list[str]:
    links = json.loads(_ip("-j", "-4", "addr", "show", "dev", name))
    return [f"{each['local']}/{each['prefixlen']}" for link in links for each in link.get("addr_info", [])]


def _ip(*arguments: str) -> str:
    done = _run("ip", *arguments)
    if done.returncode != 0:
        raise Misconfigured(
            f"ip {' '.join(arguments)} failed: {done.stderr.strip()}; an own Docker Engine needs root and a"
            " network of its own, otherwise set DOCKER_HOST to an engine that runs"
        )
    return done.stdout


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PATH": processes.search_path(), "LC_ALL": "C"}
    program = processes.which(command[0]) or command[0]
    return subprocess.run([program, *command[1:]], capture_output=True, text=True, env=environ, check=False)

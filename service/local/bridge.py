"""The network bridge of an own dockerd, and addresses that nobody else on this machine uses.

Several state directories may each run a dockerd. Each gets a /16: the bridge takes its first /24, the
second half is the pool from which dockerd cuts the networks of projects.
"""

from __future__ import annotations

import fcntl
import ipaddress
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

import msgspec

from service.errors import Misconfigured
from service.local import processes

_LOCK = Path("/run/jobyard-bridges.lock")  # two runs that choose at once must not choose the same


@dataclass(frozen=True)
class Bridge:
    """`name` of the link (15 letters at most) and the /16 that is its and its networks'."""

    name: str
    subnet: IPv4Network

    @property
    def address(self) -> str:
        return f"{self.subnet.network_address + 1}/24"

    @property
    def pool(self) -> str:
        """As dockerd's --default-address-pool wants it: 128 networks of 254 addresses."""
        return f"base={list(self.subnet.subnets(1))[1]},size=24"


def ensure(name: str, record: Path) -> Bridge:
    """Makes the bridge `name`, or takes the one that stands. `record` keeps its subnet for the next run.

    Raises Misconfigured if the machine has no free private /16 or does not let us make a bridge.
    """
    with _LOCK.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = _read(record)
        used = list(_used_networks(except_link=name, of=kept))
        if kept is None or any(kept.overlaps(other) for other in used):
            kept = _choose(name, used)
        bridge = Bridge(name, kept)
        # First the record: whoever cleans up after a kill finds the link by it.
        record.write_bytes(msgspec.json.encode({"bridge": name, "subnet": str(kept)}))
        if not Path(f"/sys/class/net/{name}").exists():
            _ip("link", "add", name, "type", "bridge")
        if bridge.address not in _addresses(name):
            _ip("-4", "addr", "flush", "dev", name)
            _ip("addr", "add", bridge.address, "dev", name)
        _ip("link", "set", name, "up")
    return bridge


def remove(record: Path) -> None:
    """Takes away the bridge that ensure() noted in `record`, if any; all links of networks in its /16;
    and what dockerd left in iptables for them."""
    subnet = _read(record)
    if subnet is None:
        return
    for link in json.loads(_ip("-j", "-4", "addr")):
        inside = [each for each in link.get("addr_info", []) if _within(each["local"], subnet)]
        if inside:
            _ip("link", "delete", link["ifname"])
            _forget_rules(link["ifname"])


def _forget_rules(link: str) -> None:
    for table in ("nat", "filter", "raw"):
        for rule in _run("iptables", "-w", "-t", table, "-S").stdout.splitlines():
            if rule.startswith("-A ") and link in rule.split():
                _run("iptables", "-w", "-t", table, "-D", *rule.split()[1:])


def _read(record: Path) -> IPv4Network | None:
    if not record.exists():
        return None
    return IPv4Network(msgspec.json.decode(record.read_bytes(), type=dict[str, str])["subnet"])


def _choose(name: str, used: list[IPv4Network]) -> IPv4Network:
    candidates = [IPv4Network(f"10.{second}.0.0/16") for second in range(64, 256)]
    offset = int.from_bytes(name.encode()[-4:]) % len(candidates)  # spread, so that histories rarely collide
    candidates = candidates[offset:] + candidates[:offset]
    candidates += [IPv4Network(f"172.{second}.0.0/16") for second in range(18, 32)]
    for candidate in candidates:
        if not any(candidate.overlaps(other) for other in used):
            return candidate
    raise Misconfigured("every private /16 network is in use here: set DOCKER_HOST to an engine that runs")


def _used_networks(except_link: str, of: IPv4Network | None) -> Iterator[IPv4Network]:
    """The networks of others. `of` is ours already: what Docker cut from it for projects is no other's, and
    must be kept, as their containers outlive a dockerd that was killed."""
    pool = None if of is None else list(of.subnets(1))[1]
    for route in json.loads(_ip("-j", "-4", "route", "show", "table", "all")):
        link, text = str(route.get("dev")), route["dst"]
        if link == except_link or text == "default":
            continue
        network = ipaddress.IPv4Network(text, strict=False)
        if pool is None or not (link.startswith("br-") and network.subnet_of(pool)):
            yield network


def _addresses(name: str) -> list[str]:
    links = json.loads(_ip("-j", "-4", "addr", "show", "dev", name))
    return [f"{each['local']}/{each['prefixlen']}" for link in links for each in link.get("addr_info", [])]


def _within(address: str, subnet: IPv4Network) -> bool:
    return ipaddress.IPv4Address(address) in subnet


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

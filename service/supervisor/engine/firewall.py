"""What the host's firewall keeps containers from: a cloud's metadata service, and the jobs of other projects.

Docker keeps networks apart by itself, in chains that every dockerd of a host empties when it starts: a second
one takes that wall from all networks of the first. So each network has a rule of our own too, in the chain
that is the owner's and that no dockerd empties.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from service.outward.addresses import METADATA

CHAIN = "DOCKER-USER"
"""The engine's chain for rules of the host's owner; every packet a container sends away passes it."""

#: A rule of `keep_apart`, as `iptables -S` writes it.
_APART = re.compile(
    rf"-A {CHAIN} ! -i (br-[0-9a-f]{{12}}) -o \1 -m conntrack ! --ctstate RELATED,ESTABLISHED -j DROP"
)
_LINKS = Path("/sys/class/net")

#: A rule as iptables takes it after `-C` or `-I`, the chain first.
Rule: TypeAlias = tuple[str, ...]


async def block_metadata(*, engine_is_local: bool, root: bool | None = None) -> bool:
    """Make sure the host drops what containers send to metadata addresses; True when IPv4 is covered.

    IPv6 is covered where the engine has its chain there. False when we are not root on the engine's
    host or the chain is missing: then the operator has to see to it.
    """
    is_root = os.geteuid() == 0 if root is None else root
    if not (engine_is_local and is_root):
        return False
    await _have("ip6tables", metadata_rules(6))
    return await _have("iptables", metadata_rules(4))


def metadata_rules(version: int) -> list[Rule]:
    """All but names: some clouds answer DNS at the very address, and a job without names reaches nothing."""
    networks = [network for network in METADATA if network.version == version]
    return [
        (CHAIN, "-d", str(network), "-p", protocol, "-m", protocol, "!", "--dport", "53", "-j", "DROP")
        for network in networks
        for protocol in ("tcp", "udp")
    ]


async def keep_apart(links: Iterable[str], *, engine_is_local: bool, root: bool | None = None) -> bool:
    """Make sure that nothing is forwarded into these bridges but answers; True when it is so.

    What is within a bridge may talk, and the host itself may. A link that is not here counts for nothing.
    False as for `block_metadata`; then the engine's own rules are all there are.
    """
    is_root = os.geteuid() == 0 if root is None else root
    if not (engine_is_local and is_root):
        return False
    if not await _have("iptables", [_apart(link) for link in links if _is_here(link)]):
        return False
    await _forget_links_gone()
    return True


def _apart(link: str) -> Rule:
    answers = ("-m", "conntrack", "!", "--ctstate", "RELATED,ESTABLISHED")
    return (CHAIN, "!", "-i", link, "-o", link, *answers, "-j", "DROP")


async def _forget_links_gone() -> None:
    """Take away the rules of networks that are gone: ids are random, so they can be of no use again."""
    _, rules = await _run("iptables", "-w", "-S", CHAIN)
    for found in map(_APART.fullmatch, rules.splitlines()):
        if found and not _is_here(found[1]):
            await _run("iptables", "-w", "-D", *_apart(found[1]))


def _is_here(link: str) -> bool:
    return (_LINKS / link).exists()


async def _have(tool: str, rules: list[Rule]) -> bool:
    """That the chain has all of them. This is asked for often: it is listed once, and what is missing set."""
    listed = set((await _run(tool, "-w", "-S", CHAIN))[1].splitlines())
    missing = [rule for rule in rules if f"-A {' '.join(rule)}" not in listed]
    return all([await _has(tool, rule) for rule in missing])


async def _has(tool: str, rule: Rule) -> bool:
    if (await _run(tool, "-w", "-C", *rule))[0]:
        return True
    return (await _run(tool, "-w", "-I", *rule))[0]


async def _run(*command: str, timeout_s: float = 20.0) -> tuple[bool, str]:
    """Whether it succeeded, and what it said."""
    pipe, quiet = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(*command, stdin=quiet, stdout=pipe, stderr=quiet)
    except OSError:
        return False, ""  # the tool is not installed
    try:
        async with asyncio.timeout(timeout_s):
            said, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return False, ""
    return process.returncode == 0, said.decode()

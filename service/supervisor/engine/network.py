"""Networks: one bridge a project, and no way from any of them to a cloud's metadata service."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from typing import Any

from service.errors import EngineError
from service.supervisor.engine.wire import Wire, refused, safe_name

METADATA_V4 = "169.254.0.0/16"
METADATA_V6 = "fd00:ec2::254"
CHAIN = "DOCKER-USER"
"""The engine's chain for rules of the host's owner; every packet a container sends away passes it."""


class Networks:
    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._turn = asyncio.Lock()

    async def ensure(self, name: str, labels: Mapping[str, str]) -> str:
        """See `Engine.ensure_network`.

        Docker's check for a second network of one name is no lock: processes that ask at the same moment
        get one each (seen on 20.10), and each may see its own before it sees the others'. So whoever looks
        takes the oldest and takes the others away, as long as nobody is on them.
        """
        async with self._turn:
            found = await self._ours(safe_name(name), labels)
            if not found:
                await self._make(name, labels)
                found = await self._ours(name, labels)
            if not found:
                raise EngineError(f"a network named {name} exists and is not ours")
            for younger in found[1:]:
                await self._wire.call("DELETE", f"/networks/{younger}")
            return found[0]

    async def _ours(self, name: str, labels: Mapping[str, str]) -> list[str]:
        """The networks of this name, the oldest first."""
        filters = json.dumps({"name": [name], "driver": ["bridge"]})
        answer = await self._wire.call("GET", "/networks", params={"filters": filters})
        if answer.status != 200:
            raise refused(f"list networks named {name}", answer)
        # The engine's name filter matches parts of names, too.
        same: list[dict[str, Any]] = [
            network
            for network in answer.body
            if network["Name"] == name and labels.items() <= (network["Labels"] or {}).items()
        ]
        same.sort(key=lambda network: (network["Created"], network["Id"]))
        return [str(network["Id"]) for network in same]

    async def _make(self, name: str, labels: Mapping[str, str]) -> None:
        body = {
            "Name": name,
            "Driver": "bridge",
            "CheckDuplicate": True,
            "Labels": dict(labels),
            # A project's jobs may talk to each other; other projects are on other bridges.
            "Options": {"com.docker.network.bridge.enable_icc": "true"},
        }
        answer = await self._wire.call("POST", "/networks/create", body=body)
        if answer.status not in (201, 409):
            raise refused(f"create network {name}", answer)


async def block_metadata(*, engine_is_local: bool, root: bool | None = None) -> bool:
    """Make sure the host drops what containers send to metadata addresses; True when IPv4 is covered.

    IPv6 is covered where the engine has its chain there. False when we are not root on the engine's
    host or the chain is missing: then the operator has to see to it.
    """
    is_root = os.geteuid() == 0 if root is None else root
    if not (engine_is_local and is_root):
        return False
    await _drop("ip6tables", METADATA_V6)
    return await _drop("iptables", METADATA_V4)


async def _drop(tool: str, destination: str) -> bool:
    rule = (CHAIN, "-d", destination, "-j", "DROP")
    if await _succeeds(tool, "-w", "-C", *rule):
        return True
    return await _succeeds(tool, "-w", "-I", *rule)


async def _succeeds(*command: str, timeout_s: float = 20.0) -> bool:
    quiet = asyncio.subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(*command, stdin=quiet, stdout=quiet, stderr=quiet)
    except OSError:
        return False  # the tool is not installed
    try:
        async with asyncio.timeout(timeout_s):
            return await process.wait() == 0
    except TimeoutError:
        process.kill()
        await process.wait()
        return False

"""Networks: one bridge a project, which nobody outside of it begins to talk into."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from service.errors import EngineError
from service.supervisor.engine import firewall
from service.supervisor.engine.wire import Wire, refused, safe_name
from service.supervisor.names import LEDGER

#: Networks of projects without jobs that stay, the newest: to make one anew takes longer than a start.
IDLE_KEPT = 8


class Networks:
    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._turn = asyncio.Lock()
        self._apart: set[str] = set()

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
            if found[0] not in self._apart:
                await self._keep_apart(found[:1])
            return found[0]

    async def all_apart(self) -> None:
        """As `ensure` does it, for the networks of all ledgers that there are already, whatever became of the
        rules meanwhile: other programs make a host's firewall anew."""
        await self._keep_apart([str(network["Id"]) for network in await self._labelled(LEDGER)])

    async def _labelled(self, *labels: str) -> list[dict[str, Any]]:
        filters = json.dumps({"label": labels, "driver": ["bridge"]})
        answer = await self._wire.call("GET", "/networks", params={"filters": filters})
        if answer.status != 200:
            raise refused("list networks", answer)
        found: list[dict[str, Any]] = answer.body
        return found

    async def _keep_apart(self, networks: list[str]) -> None:
        links = [f"br-{network[:12]}" for network in networks]
        if await firewall.keep_apart(links, engine_is_local=self._wire.socket_path is not None):
            self._apart.update(networks)

    async def spare(self, labels: Mapping[str, str], used: AbstractSet[str]) -> None:
        """See `Engine.spare_networks`."""
        async with self._turn:
            found = await self._labelled(*(f"{name}={value}" for name, value in labels.items()))
            idle = [network for network in found if network["Name"] not in used]
            idle.sort(key=lambda network: (network["Created"], network["Id"]), reverse=True)
            for network in idle[IDLE_KEPT:]:
                answer = await self._wire.call("DELETE", f"/networks/{network['Id']}")
                connected = answer.status == 403 and "active endpoints" in answer.message
                if answer.status not in (204, 404) and not connected:
                    raise refused(f"remove network {network['Name']}", answer)

    async def drop(self, name: str, labels: Mapping[str, str], *, broken: str) -> bool:
        """See `Engine.drop_network`.

        By its id: another job may have had it made anew already, and that one is whole. The engine refuses
        as long as anything is connected, and knows best what is.
        """
        async with self._turn:
            for network in await self._ours(safe_name(name), labels):
                if not network.startswith(broken):
                    continue
                answer = await self._wire.call("DELETE", f"/networks/{network}")
                if answer.status == 403 and "active endpoints" in answer.message:
                    return False
                if answer.status not in (204, 404):
                    raise refused(f"remove network {name}", answer)
        return True

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
            # A project's jobs may talk to each other; other projects are on other bridges, kept apart below.
            "Options": {"com.docker.network.bridge.enable_icc": "true"},
        }
        answer = await self._wire.call("POST", "/networks/create", body=body)
        if answer.status not in (201, 409):
            raise refused(f"create network {name}", answer)

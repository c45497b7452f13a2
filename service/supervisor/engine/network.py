"""Networks: one bridge a project, which nobody outside of it begins to talk into."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from service.errors import EngineError
from service.supervisor.engine import firewall
from service.supervisor.engine.wire import Wire, refused, safe_name
from service.supervisor.names import LEDGER


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
                await self._keep_apart(found[0])
            return found[0]

    async def all_apart(self) -> None:
        """As `ensure` does it, for the networks of all ledgers that there are already."""
        filters = json.dumps({"label": [LEDGER], "driver": ["bridge"]})
        answer = await self._wire.call("GET", "/networks", params={"filters": filters})
        if answer.status != 200:
            raise refused("list networks", answer)
        for network in answer.body:
            await self._keep_apart(str(network["Id"]))

    async def _keep_apart(self, network: str) -> None:
        if await firewall.keep_apart(
            f"br-{network[:12]}", engine_is_local=self._wire.socket_path is not None
        ):
            self._apart.add(network)

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

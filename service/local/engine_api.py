"""Plain calls to a Docker Engine at an address, for what happens before, beside and after the service."""

from __future__ import annotations

import json
from ipaddress import IPv4Network

import aiohttp

from service.errors import Misconfigured
from service.local import bridge
from service.supervisor.names import PROJECT


async def answers(host: str) -> bool:
    """Whether a Docker Engine answers /_ping at `host` (unix:///path or tcp://name:port)."""
    try:
        async with session(host) as http, http.get("/_ping") as response:
            return response.status == 200 and (await response.text()).strip() == "OK"
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False


async def running_containers(host: str) -> int:
    """How many containers run on the engine at `host`."""
    async with session(host) as http, http.get("/containers/json") as response:
        response.raise_for_status()
        return len(await response.json())


async def remove_all(host: str) -> None:
    """Removes every container and network of the engine at `host`: for a throw-away engine of ours only."""
    async with session(host, timeout_s=60) as http:
        async with http.get("/containers/json", params={"all": "1"}) as response:
            found = await response.json()
        for each in found:
            params = {"force": "1", "v": "1"}
            async with http.delete(f"/containers/{each['Id']}", params=params) as response:
                await response.read()
        async with http.post("/networks/prune") as response:
            await response.read()


async def drop_strays(host: str, link: bridge.Bridge) -> list[tuple[str, str]]:
    """Removes networks of projects, on an engine of ours, that have addresses outside the /16 of `link`: of
    one that we had to give up. They are made anew when a job needs them. Answers their names, and what became
    of each: one with containers in it is left to them."""
    found = []
    async with session(host, timeout_s=60) as http:
        params = {"filters": json.dumps({"label": [PROJECT], "driver": ["bridge"]})}
        async with http.get("/networks", params=params) as response:
            response.raise_for_status()
            networks = await response.json()
        for each in networks:
            subnets = [
                IPv4Network(cut["Subnet"]) for cut in each["IPAM"]["Config"] or [] if "." in cut["Subnet"]
            ]
            if all(subnet.subnet_of(link.subnet) for subnet in subnets):
                continue
            async with http.delete(f"/networks/{each['Id']}") as response:
                gone = response.status in (204, 404)
            how = "removed, to be made anew" if gone else "it stays as long as containers are in it"
            found.append((each["Name"], how))
    return found


def session(host: str, *, timeout_s: float = 5) -> aiohttp.ClientSession:
    """A client of the engine at `host`; paths are the Engine API's."""
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    scheme, _, rest = host.partition("://")
    if scheme == "unix":
        connector = aiohttp.UnixConnector(path=rest)
        return aiohttp.ClientSession("http://docker", connector=connector, timeout=timeout)
    if scheme in ("tcp", "http") and rest:
        try:
            return aiohttp.ClientSession(f"http://{rest.rstrip('/')}", timeout=timeout)
        except ValueError as error:
            raise Misconfigured(f"the Docker host {host!r} cannot be used: {error}") from error
    raise Misconfigured(f"a Docker host is unix:///path or tcp://name:port, not {host!r}")

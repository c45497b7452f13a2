"""The Docker Engine: the one that answers here, or one of our own under the state directory."""

from __future__ import annotations

import asyncio
import os
import re
import time
from pathlib import Path

import aiohttp

from service.errors import Misconfigured, Unavailable
from service.local import apt, bridge, places, processes
from service.local.processes import Process

SYSTEM_HOST = "unix:///var/run/docker.sock"
_START_TIMEOUT_S = 90
_DEEPEST_SOCKET = "exec/containerd/containerd.sock.ttrpc"
_PACKAGES = {"dockerd": "docker.io", "iptables": "iptables", "ip": "iproute2"}


class DockerEngine:
    """A Docker Engine for one state directory. After start(), `host` is its address and `is_ours` is known.

    `configured` is the address that the operator gave, if any: then that one must answer. Otherwise
    DOCKER_HOST, then the machine's own engine, then a dockerd of ours. Once a state directory has a
    dockerd of its own it keeps it, as that one holds its jobs.
    """

    name = "the Docker Engine"

    def __init__(self, state: Path, *, configured: str | None, say: apt.Say, own: bool = False) -> None:
        self.folder = state / "docker"
        self.configured = configured
        self.say = say
        self.own = own
        self.host = ""
        self.is_ours = False
        self._run = places.for_sockets(self.folder, _DEEPEST_SOCKET)
        self._bridge_name = f"jy-{places.digest(state)}"
        self._network_record = self.folder / "network.json"
        self._process: Process | None = None

    async def start(self) -> None:
        """Finds or starts the engine. Raises Misconfigured or Unavailable, in one line."""
        found = None if self.own else await self._find()
        if found is None:
            await self._prepare()
            found = None if self.own else await self._find()  # a package may have started the machine's own
        if found is None:
            await self._start_ours()
        else:
            self.host = found

    def has_died(self) -> bool:
        """Whether a dockerd of ours was started and is gone without having been stopped."""
        return self._process is not None and not self._process.is_alive()

    async def restart(self) -> None:
        """Starts a dockerd of ours that died, and never another engine, whatever answers by now."""
        await self._start_ours()

    async def stop(self) -> None:
        """Stops a dockerd of ours. Containers live on (live-restore), and their bridge with them."""
        if self._process is None:
            return
        in_use = await running_containers(self.host) > 0 if await answers(self.host) else True
        await self._process.stop(grace_s=30)
        self._process = None
        if not in_use:
            await processes.in_thread(self.remove_network)

    def remove_network(self) -> None:
        """Removes the bridge and its rules, where there are any; no container may run any more."""
        bridge.remove(self._network_record)

    def outside(self) -> list[Path]:
        """Folders of ours that are not in the state directory."""
        return [] if self._run == self.folder else [self._run]

    async def _find(self) -> str | None:
        if self.configured is not None:
            if not await answers(self.configured):
                raise Unavailable(f"no Docker Engine answers at {self.configured}")
            return self.configured
        given = os.environ.get("DOCKER_HOST")
        if given and await answers(given):
            return given
        if given:
            self.say(f"DOCKER_HOST is {given}, but nothing answers there; looking further")
        has_ours = (self.folder / "data").exists()
        return SYSTEM_HOST if not has_ours and await answers(SYSTEM_HOST) else None

    async def _prepare(self) -> None:
        """Makes sure that a dockerd of ours could run here."""
        missing = [package for program, package in _PACKAGES.items() if processes.which(program) is None]
        if os.geteuid() != 0:
            raise Misconfigured(
                "no Docker Engine answers and only root can start one:"
                " start Docker, or set DOCKER_HOST, or run as root"
            )
        if missing:
            await processes.in_thread(apt.install, missing, why="a Docker Engine of our own", say=self.say)

    async def _start_ours(self) -> None:
        self.is_ours = True
        self._run.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.host = f"unix://{self._run / 'docker.sock'}"
        link = await processes.in_thread(bridge.ensure, self._bridge_name, self._network_record)
        pidfile, log = self.folder / "dockerd.pid", self.folder / "dockerd.log"
        said_before = log.stat().st_size if log.exists() else 0
        self._process = processes.adopt("dockerd", pidfile)
        if self._process is not None:
            self.say(f"Taking over the dockerd of an earlier run (process {self._process.pid})")
        else:
            await self._clear_remains()
            environ = {**os.environ, "PATH": processes.search_path()}
            self._process = processes.start(
                "dockerd", self._command(link), pidfile=pidfile, log=log, environ=environ, cwd=self.folder
            )
        await self._until_ready(self._process, log, from_byte=said_before)

    def _command(self, link: bridge.Bridge) -> list[str]:
        # Its own configuration file: the machine's /etc/docker/daemon.json must not leak in.
        config = self.folder / "daemon.json"
        config.write_text("{}\n")
        options = {
            "--config-file": config,
            "--data-root": self.folder / "data",
            "--exec-root": self._run / "exec",
            "--pidfile": self._run / "engine.pid",
            "--host": self.host,
            "--bridge": link.name,
            "--default-address-pool": link.pool,
        }
        flat = [str(word) for option in options.items() for word in option]
        return [processes.which("dockerd") or "dockerd", *flat, "--live-restore"]

    async def _clear_remains(self) -> None:
        """Removes what a dockerd that was killed leaves, as the next one would trip over it.

        dockerd trusts bare pids. Its containerd dies with it, but a moment later: a new dockerd would
        take that one for its own and wait for it in vain. Containers do not mind, their shims live on.
        """
        (self._run / "engine.pid").unlink(missing_ok=True)
        record = self._run / "exec" / "containerd" / "containerd.pid"
        if not record.exists():
            return
        pid = int(record.read_text().strip() or 0)
        containerd = processes.running("containerd", pid)
        if containerd is not None and str(self._run / "exec").encode() in processes.command_line(pid):
            await containerd.stop()
        record.unlink(missing_ok=True)

    async def _until_ready(self, process: Process, log: Path, from_byte: int) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not await answers(self.host):
            alive = process.is_alive()
            if alive and time.monotonic() < deadline:
                await asyncio.sleep(0.05)
                continue
            how = f"does not answer after {_START_TIMEOUT_S} s" if alive else "ended at its start"
            raise Unavailable(f"dockerd {how}: {_last_error(log, from_byte)} (all of it: {log})")


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


def session(host: str, *, timeout_s: float = 5) -> aiohttp.ClientSession:
    """A client of the engine at `host`; paths are the Engine API's."""
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    scheme, _, rest = host.partition("://")
    if scheme == "unix":
        connector = aiohttp.UnixConnector(path=rest)
        return aiohttp.ClientSession("http://docker", connector=connector, timeout=timeout)
    if scheme in ("tcp", "http") and rest:
        return aiohttp.ClientSession(f"http://{rest.rstrip('/')}", timeout=timeout)
    raise Misconfigured(f"a Docker host is unix:///path or tcp://name:port, not {host!r}")


def _last_error(log: Path, from_byte: int) -> str:
    """What dockerd said last that sounds like an error, in one line, with a hint where we have one."""
    text = log.read_bytes()[from_byte:].decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    bad = [line for line in lines if re.search(r"level=(error|fatal)|^failed|[Ee]rror", line)]
    error = (bad or lines or ["it wrote nothing"])[-1]
    if "iptables" in error or "nf_tables" in error:
        error += " - this kernel lacks what iptables needs; set DOCKER_HOST to an engine that runs elsewhere"
    return error

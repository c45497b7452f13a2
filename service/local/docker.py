"""The Docker Engine: the one that answers here, or one of our own under the state directory."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

from service.errors import Misconfigured, Unavailable
from service.local import (
    apt,
    bridge,
    containerd,
    copies,
    engine_api,
    engine_id,
    locks,
    places,
    processes,
    shims,
)
from service.local.processes import Process

SYSTEM_HOST = "unix:///var/run/docker.sock"
_START_TIMEOUT_S = 90
_STARTS = 5
_DEEPEST_SOCKET = "exec/containerd/containerd.sock.ttrpc"
_PACKAGES = {"dockerd": "docker.io", "iptables": "iptables", "ip": "iproute2"}

#: What iptables says when somebody else is at it, and what it says when the kernel cannot do it at all.
_BUSY = re.compile(
    r"Chain already exists|xtables lock|Resource temporarily unavailable"
    r"|No chain/target/match by that name|does a matching rule exist"
    r"|Directory not empty|Device or resource busy|File exists"
)
_NO_TABLES = re.compile(
    r"can't initialize iptables table|Failed to initialize nft|Protocol not supported"
    r"|Operation not supported|Table does not exist|modprobe|missing kernel module|rule set generation id"
)


class _TablesBusy(Unavailable):
    """Another program changed iptables while dockerd did; another start may do."""


class DockerEngine:
    """A Docker Engine for one state directory. After start(), `host` is its address and `is_ours` is known.

    `configured` is the address that the operator gave, if any: then that one must answer. Otherwise
    DOCKER_HOST, then the machine's own engine, then a dockerd of ours. Once a state directory has a
    dockerd of its own it keeps it, as that one holds its jobs. With `stays_in_use` it is not stopped while
    containers run.
    """

    name = "the Docker Engine"

    def __init__(
        self,
        state: Path,
        *,
        configured: str | None,
        say: apt.Say,
        own: bool = False,
        stays_in_use: bool = False,
    ) -> None:
        self.folder = state / "docker"
        self.configured = configured
        self.say = say
        self.own = own
        self.stays_in_use = stays_in_use
        self.host = ""
        self.is_ours = False
        self._run = places.for_sockets(self.folder, _DEEPEST_SOCKET)
        self._bridge_name = f"jy-{places.digest(state)}"
        self._network_record = self.folder / "network.json"
        self._log = self.folder / "dockerd.log"
        self._process: Process | None = None
        self._containerd: Process | None = None

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

    @property
    def exec_root(self) -> Path:
        """Where a dockerd of ours, its containerd and its shims meet."""
        return self._run / "exec"

    def has_died(self) -> bool:
        """Whether a dockerd of ours, or its containerd, was started and is gone without being stopped."""
        if self._process is None:
            return False
        return not (self._process.is_alive() and (self._containerd is None or self._containerd.is_alive()))

    async def restart(self) -> None:
        """Starts a dockerd of ours that died, and never another engine, whatever answers by now.

        One whose containerd died is ended before: as it starts it asks the shims how their containers are.
        One that is only slow to start is waited for once more.
        """
        if self._process is not None and self._containerd is not None and not self._containerd.is_alive():
            await self._process.stop(signal.SIGKILL)
            self._containerd = None
        await self._start_ours()

    async def stop(self) -> None:
        """Stops a dockerd of ours. Containers live on (live-restore), and their bridge with them.

        Without a dockerd nobody reads what they print, and they stand still once the pipe is full; how one
        ended meanwhile, and its last words, nobody knows. Hence `stays_in_use`.
        """
        if self._process is None:
            return
        running = (
            await engine_api.running_containers(self.host) if await engine_api.answers(self.host) else None
        )
        process, self._process = self._process, None
        if running and self.stays_in_use:
            some = f"{running} containers run" if running > 1 else "A container runs"
            self.say(f"{some} on, and dockerd for that (process {process.pid}): the next `up` takes it over.")
            return
        await process.stop(grace_s=30)
        if running == 0:
            await processes.in_thread(self.remove_network)
            await processes.in_thread(self._unmount)

    def remove_network(self) -> None:
        """Removes the bridge and its rules, where there are any; no container may run any more."""
        bridge.remove(self._bridge_name, self._network_record, ours=self._links())

    def _links(self) -> frozenset[str]:
        return bridge.links_of(self.folder / "data")

    def _ensure_bridge(self) -> bridge.Bridge:
        return bridge.ensure(self._bridge_name, self._network_record, ours=self._links())

    def _unmount(self) -> None:
        """dockerd mounts its data on itself; what one that was killed left, the next one leaves too."""
        data = (self.folder / "data").resolve()
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        if str(data) in {line.split()[4] for line in mounts}:
            done = subprocess.run(["umount", str(data)], capture_output=True, text=True, check=False)
            if done.returncode != 0:
                self.say(f"{data} stays mounted: {done.stderr.strip()}")

    def outside(self) -> list[Path]:
        """Folders of ours that are not in the state directory."""
        return [] if self._run == self.folder else [self._run]

    async def _find(self) -> str | None:
        if self.configured is not None:
            if not await engine_api.answers(self.configured):
                raise Unavailable(f"no Docker Engine answers at {self.configured}")
            return self.configured
        given = os.environ.get("DOCKER_HOST")
        if given and await engine_api.answers(given):
            return given
        if given:
            self.say(f"DOCKER_HOST is {given}, but nothing answers there; looking further")
        has_ours = (self.folder / "data").exists()
        return SYSTEM_HOST if not has_ours and await engine_api.answers(SYSTEM_HOST) else None

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
        await processes.in_thread(self._be_no_copy)
        link = await processes.in_thread(self._ensure_bridge)
        if link.left is not None:
            self.say(f"Another program has {link.left} by now: jobs get addresses of {link.subnet}")
        await self._run_dockerd(link)
        # dockerd gives its bridge the address again that it remembers, of a /16 that may be another's by now.
        # With it nobody would know the bridge for ours, and take it away.
        await processes.in_thread(self._ensure_bridge)
        self._containerd = containerd.of(self.exec_root)
        for name, how in await engine_api.drop_strays(self.host, link):
            self.say(f"The network {name} had addresses that are no longer ours: {how}")

    def _be_no_copy(self) -> None:
        """Removes from a copy what names processes and links of the original's engine, which may run on: a
        containerd would take them for its own, and end them. No data is in it."""
        if copies.is_copy(self.folder):
            for names_others in (self.folder / "exec", self.folder / "data" / "network"):
                if names_others.exists():
                    shutil.rmtree(names_others)
            engine_id.forget(self.folder)
        copies.mark(self.folder)
        engine_id.keep(self.folder)

    async def _run_dockerd(self, link: bridge.Bridge) -> None:
        """Starts dockerd, or takes over the one that runs, and waits until it answers."""
        self._process = await processes.adopt_unless_moved(
            "dockerd", self.folder / "dockerd.pid", self.folder, named=self.folder / "data"
        )
        if self._process is not None and containerd.was_lost(self.exec_root, self._process):
            self.say("The dockerd of an earlier run has lost its containerd: it is started anew")
            await self._process.stop(signal.SIGKILL)
            self._process = None
        if self._process is not None:
            self.say(f"Taking over the dockerd of an earlier run (process {self._process.pid})")
            await self._until_ready(self._process, from_byte=processes.log_size(self._log))
            return
        # A dockerd takes the chains of iptables away and makes them anew as it starts: two at once trip
        # over each other. Our own take turns at that; other programs do not know of our lock, and a dockerd
        # that runs moves its rules with each network that it makes. Hence more tries.
        async with locks.taken("dockerd", patience_s=_START_TIMEOUT_S):
            for tries_left in reversed(range(_STARTS)):
                try:
                    await self._launch(link)
                    return
                except _TablesBusy as error:
                    if not tries_left:
                        raise
                    self.say(f"{error.message}; trying once more")

    async def _launch(self, link: bridge.Bridge) -> None:
        """Starts dockerd and waits until it answers."""
        await self._clear_remains()
        said_before = processes.log_size(self._log)
        self._process = processes.start(
            "dockerd",
            self._command(link),
            pidfile=self.folder / "dockerd.pid",
            log=self._log,
            environ={**os.environ, "PATH": processes.search_path()},
            cwd=self.folder,
        )
        await self._until_ready(self._process, from_byte=said_before)

    def _command(self, link: bridge.Bridge) -> list[str]:
        # Its own configuration file: the machine's /etc/docker/daemon.json must not leak in.
        config = self.folder / "daemon.json"
        program = processes.which("dockerd") or "dockerd"
        config.write_text(json.dumps(engine_id.configured(program, self.folder)) + "\n")
        options = {
            "--config-file": config,
            "--data-root": self.folder / "data",
            "--exec-root": self.exec_root,
            "--pidfile": self._run / "engine.pid",
            "--host": self.host,
            "--bridge": link.name,
            "--default-address-pool": link.pool,
        }
        flat = [str(word) for option in options.items() for word in option]
        return [program, *flat, "--live-restore"]

    async def _clear_remains(self) -> None:
        """Removes what a dockerd that was killed leaves, as the next one would trip over it.

        dockerd trusts bare pids. Its containerd dies with it, but a moment later: a new dockerd would
        take that one for its own and wait for it in vain. Containers do not mind, their shims live on; those
        whose start was cut off are settled here.
        """
        (self._run / "engine.pid").unlink(missing_ok=True)
        left = containerd.of(self.exec_root)
        if left is not None:
            await left.stop()
        containerd.record(self.exec_root).unlink(missing_ok=True)
        for done in await shims.settle(self.exec_root, self.folder / "data"):
            self.say(done)

    async def _until_ready(self, process: Process, from_byte: int) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not await engine_api.answers(self.host):
            alive = process.is_alive()
            if alive and time.monotonic() < deadline:
                await asyncio.sleep(0.05)
                continue
            how = f"does not answer after {_START_TIMEOUT_S} s" if alive else "ended at its start"
            raise _explained(how, processes.said_since(self._log, from_byte), self._log)


def _explained(how: str, said: str, log: Path) -> Unavailable:
    """Why dockerd does not run, in one line: what it said last that sounds like an error, and a hint."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    bad = [line for line in lines if re.search(r"level=(error|fatal)|^failed|[Ee]rror", line)]
    message = f"dockerd {how}: {(bad or lines or ['it wrote nothing'])[-1]}"
    about_tables = "iptables" in message or "nf_tables" in message
    if about_tables and _BUSY.search(message):
        return _TablesBusy(f"{message} - another program may be changing iptables (all of it: {log})")
    if about_tables and _NO_TABLES.search(message):
        message += (
            " - this kernel lacks what iptables needs; set DOCKER_HOST to an engine that runs elsewhere"
        )
    return Unavailable(f"{message} (all of it: {log})")

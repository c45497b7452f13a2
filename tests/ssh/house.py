"""A gateway on a real ledger and a real engine, and a job that it leads to."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh

from service.app import listening_socket
from service.domain.events import ExecOpened
from service.ledger.ledger import Ledger
from service.ssh.gateway import Gateway, gateway
from service.ssh.host_key import host_key
from service.ssh.ports import Execs, Inside, SshParts
from tests.api.yard import Supervision, Yard
from tests.ssh.client import Client
from tests.supervisor.lab import Lab


@asynccontextmanager
async def serving(
    ledger: Ledger, execs: Execs, inside: Inside, key_file: Path
) -> AsyncIterator[tuple[Gateway, int]]:
    """A gateway on a free port."""
    listening = listening_socket("127.0.0.1", 0, shared=False)
    port = listening.getsockname()[1]
    async with gateway(SshParts(ledger, execs, inside, host_key(key_file)), listening) as made:
        yield made, port


@dataclass
class House:
    """A gateway, a RUNNING job in a real container, and a client with the job's key."""

    yard: Yard
    lab: Lab
    supervision: Supervision
    gateway: Gateway
    client: Client
    job: str
    container: str

    async def inside(self, text: str) -> str:
        """What a shell in the container says, past the gateway."""
        async with self.gateway.parts.execs.open(self.container, ("sh", "-c", text)) as running:
            return b"".join([each.data async for each in running.output()]).decode()

    @asynccontextmanager
    async def running(self, text: str) -> AsyncIterator[None]:
        """A shell text that goes on in the container while the context lasts."""
        async with self.gateway.parts.execs.open(self.container, ("sh", "-c", text)):
            yield

    async def runs(self, text: str) -> bool:
        """Whether a process with this in its command line runs in the container."""
        return text in await self.inside("ps -o args")

    async def has_ended(self, text: str) -> bool:
        return not await self.runs(text)

    @asynccontextmanager
    async def connected(self, **options: Any) -> AsyncIterator[asyncssh.SSHClientConnection]:
        """A client in this process, for what OpenSSH's does not do."""
        chosen: dict[str, Any] = {
            "username": self.job,
            "client_keys": [str(self.client.key.file)],
            "known_hosts": None,
            "config": None,
        }
        async with asyncssh.connect("127.0.0.1", self.client.port, **(chosen | options)) as connection:
            yield connection

    async def opened(self) -> list[tuple[str, list[str], str]]:
        """Every session in the ledger: its kind, its words, who."""
        found: list[tuple[str, list[str], str]] = []
        for event in await self.yard.ledger.events(0, limit=1000):
            if isinstance(event.body, ExecOpened):
                words = json.loads(str(await self.yard.ledger.open_secret(event.body.command)))
                own = await self.yard.ledger.keys.ids_of_job(event.job) if event.job else ()
                assert (event.body.command.key_id,) == own, "it goes with the job's key"
                assert event.client_address == "127.0.0.1"
                found.append((event.body.session, words, event.actor))
        return found

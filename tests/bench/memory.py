"""What the service holds in memory: a whole `up` at rest, and what each websocket client adds, at rest and
while events come to all of them.

Counted is the proportional set size of all its processes, from the kernel: pages that several of them share
count once. The parts (Postgres, Docker, the object store) are others' and are not counted.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

from service.domain import commands as cmd
from service.ledger.ledger import Ledger
from service.vault import MasterKey, new_key
from tests.acceptance.running import new_state, remove, service
from tests.bench import yard
from tests.bench.crowd import Crowd, crowd
from tests.bench.measure import Figure, quick

CLIENTS = 1000
#: What a start leaves to be done is done, and what garbage there is has been given back.
REST_S = 10.0
#: Each comes to every client.
EVENTS = 25


async def bench() -> AsyncGenerator[Figure, None]:
    clients = 100 if quick() else CLIENTS
    async with yard.database() as url:
        for figure in await asyncio.to_thread(_measured, url, clients):
            yield figure


def _measured(url: str, clients: int) -> list[Figure]:
    parts = {
        "DATABASE_URL": url,
        "DOCKER_HOST": os.environ["JOBYARD_TEST_DOCKER_HOST"],
        "JOBYARD_S3": os.environ["JOBYARD_TEST_S3"],
        "JOBYARD_SSH_PORT": "off",
    }
    state = new_state()
    try:
        with service(state, **parts) as running:
            return asyncio.run(_figures(running.up, url, clients))
    finally:
        remove(state)


async def _figures(up: dict[str, Any], url: str, clients: int) -> list[Figure]:
    main = int(up["pid"])
    await asyncio.sleep(REST_S)
    idle = _bytes_of(main)
    async with crowd(up["url"], "/v1/events?after=now", up["token"], clients) as everybody:
        await asyncio.sleep(REST_S)
        crowded = _bytes_of(main)
        flowing = await _while_events_flow(main, url, everybody)
    return [
        Figure("API and supervisor, idle", "MiB", idle / 2**20, target=200.0),
        Figure(f"each of {clients:,} websockets", "KiB", (crowded - idle) / clients / 1024, target=24.0),
        Figure(
            f"each of {clients:,} websockets, while events flow",
            "KiB",
            (flowing - idle) / clients / 1024,
            target=24.0,
        ),
    ]


async def _while_events_flow(main: int, url: str, everybody: Crowd) -> int:
    """The most seen, after each of some events that all clients have taken."""
    most = 0
    async with Ledger.open(url, MasterKey(new_key())) as ledger:
        for number in range(EVENTS):
            await everybody.expect(1)
            await ledger.submit(cmd.SetQuota(project=yard.PROJECT, cpu=1_000 + number, gpu=8), actor="bench")
            await everybody.taken()
            most = max(most, _bytes_of(main))
    return most


def _bytes_of(main: int) -> int:
    return sum(_proportional(pid) for pid in (main, *_below(main)))


def _below(pid: int) -> Iterator[int]:
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            yield child
            yield from _below(child)


def _proportional(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"the kernel does not tell what process {pid} holds")

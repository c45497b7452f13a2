"""What keeping a job's log costs beyond reading it.

Bare: a loop that reads the engine's log of an ended container through aiohttp, and nothing else. Ours: a
keeper that finds the same log new, and writes it to its files. The bytes are those of the stream, frames
included; lines of 100 and of 1000 bytes, as the engine and we pay by the line.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import aiohttp

from service.supervisor.engine.docker import DockerEngine
from service.supervisor.engine.protocol import ContainerSpec
from service.supervisor.logs.keeper import LogKeeper
from tests.bench.measure import Figure, Measure, compare, quick
from tests.images import BUSYBOX, import_busybox

_DOCKER = os.environ.get("JOBYARD_TEST_DOCKER_HOST", "unix:///var/run/docker.sock")
_MB = 1_000_000
_FRAME = 39
"""Bytes that the stream has for each line besides it: the head, the timestamp, a space."""


async def bench() -> AsyncGenerator[Measure | Figure, None]:
    os.environ["DOCKER_HOST"] = _DOCKER  # where the image is made
    import_busybox()
    megabytes = 2 if quick() else 24  # less than the engine holds
    engine = DockerEngine(_DOCKER)
    try:
        for line in (100, 1000):
            container = await _printed(engine, line, megabytes * _MB // line)
            size = megabytes * _MB // line * (line + _FRAME) / _MB
            try:
                yield await _compared(engine, container, f"logs: kept, lines of {line} bytes", size)
                yield await _cpu(engine, container, f"logs: kept a second of CPU, lines of {line}", size)
            finally:
                await engine.remove(container, force=True)
    finally:
        await engine.close()


async def _compared(engine: DockerEngine, container: str, name: str, size_mb: float) -> Measure:
    async def bare() -> float:
        begun_s = time.perf_counter()
        await _read(container)
        return size_mb / (time.perf_counter() - begun_s)

    async def ours() -> float:
        begun_s = time.perf_counter()
        await _keep(engine, container)
        return size_mb / (time.perf_counter() - begun_s)

    return await compare(name, "MB", bare, ours, target=0.7)


async def _cpu(engine: DockerEngine, container: str, name: str, size_mb: float) -> Figure:
    """What a core of ours could take if the engine gave it as fast."""
    begun_s = time.process_time()
    await _keep(engine, container)
    return Figure(name, "MB", size_mb / (time.process_time() - begun_s), target=30, at_most=False)


async def _printed(engine: DockerEngine, line: int, lines: int) -> str:
    command = ("sh", "-c", f"yes {'x' * (line - 1)} | head -n {lines}")
    spec = ContainerSpec(f"bench-log-{uuid4().hex[:8]}", BUSYBOX, command, network="none")
    container = await engine.create(spec)
    await engine.start(container)
    while (found := await engine.find(container)) is not None and found.state != "exited":
        await asyncio.sleep(0.05)
    return container


async def _read(container: str) -> None:
    socket = aiohttp.UnixConnector(_DOCKER.removeprefix("unix://"))
    params = {"stdout": "1", "stderr": "1", "timestamps": "1"}
    async with (
        aiohttp.ClientSession(connector=socket) as session,
        session.get(f"http://docker/v1.41/containers/{container}/logs", params=params) as reply,
    ):
        reply.raise_for_status()
        async for _ in reply.content.iter_any():
            pass


async def _keep(engine: DockerEngine, container: str) -> None:
    with TemporaryDirectory(prefix="jobyard-bench-") as folder:
        keeper = LogKeeper(engine, Path(folder))
        await keeper.catch_up(uuid4(), 1, container)
        await keeper.close()

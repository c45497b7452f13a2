"""The image the demo runs in: from a registry where one answers, else made of this machine's Python."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from typing import IO

import aiohttp

from service.errors import EngineError, Unavailable
from service.local import engine_api
from service.local.demo import python_image
from service.supervisor.engine.docker import DockerEngine

PUBLIC = "python:3.12-slim"
REGISTRY_TIMEOUT_S = 4.0
PULL_TIMEOUT_S = 180.0
PULL_STALL_S = 20.0
IMPORT_TIMEOUT_S = 120.0

Say = Callable[[str], None]


async def ready(docker_host: str, say: Say) -> str:
    """The reference of an image with Python that the engine holds, and that a job may run.

    One that came from a registry is asked for there again before each run: without an answer it is no use.
    """
    engine = DockerEngine(docker_host)
    try:
        held = await engine.image(PUBLIC)
        if held is not None and not held.digests:
            return PUBLIC
        if await _registry_answers(docker_host):
            if held is not None:
                return PUBLIC
            say(f"Pulling {PUBLIC}")
            try:
                async with asyncio.timeout(PULL_TIMEOUT_S):
                    await engine.pull(PUBLIC, stall_s=PULL_STALL_S)
                return PUBLIC
            except (EngineError, Unavailable, TimeoutError) as error:
                say(f"It cannot be pulled ({getattr(error, 'message', 'it took too long')})")
        if await engine.image(python_image.NAME) is None:
            say("No registry answers: making an image of this machine's own Python")
            await make(docker_host)
        return python_image.NAME
    finally:
        await engine.close()


async def make(docker_host: str) -> str:
    """Imports an image of this machine's Python into the engine; its reference."""
    with tempfile.TemporaryFile() as file:
        await asyncio.to_thread(python_image.write, file)
        await _import(docker_host, file)
    return python_image.NAME


async def _import(docker_host: str, file: IO[bytes]) -> None:
    repository, _, tag = python_image.NAME.rpartition(":")
    params = [("fromSrc", "-"), ("repo", repository), ("tag", tag), ("platform", "linux/amd64")]
    params += [("changes", change) for change in python_image.CHANGES]
    size_bytes = file.tell()
    file.seek(0)
    headers = {"Content-Type": "application/x-tar", "Content-Length": str(size_bytes)}
    try:
        async with (
            engine_api.session(docker_host, timeout_s=IMPORT_TIMEOUT_S) as http,
            http.post("/images/create", params=params, data=file, headers=headers) as reply,
        ):
            said = await reply.text()
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise Unavailable(f"the Docker Engine did not take the image: {type(error).__name__}") from error
    # The engine answers 200 at once and tells of errors in what follows.
    if reply.status != 200 or '"error"' in said:
        raise EngineError(f"the Docker Engine refused the image: {said.strip()[-300:]}")


async def _registry_answers(docker_host: str) -> bool:
    """Asked through the engine, as it is the engine that pulls: its proxies and mirrors count, not ours."""
    try:
        async with (
            engine_api.session(docker_host, timeout_s=REGISTRY_TIMEOUT_S) as http,
            http.get(f"/distribution/{PUBLIC}/json") as reply,
        ):
            return reply.status == 200
    except (aiohttp.ClientError, OSError, TimeoutError):
        return False

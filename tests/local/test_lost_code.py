"""A dockerd that is killed before it has written down how a container ended, and then says code 0."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from service.errors import Unavailable
from service.local import docker
from service.supervisor.engine.docker import DockerEngine
from service.supervisor.engine.protocol import ContainerSpec
from tests.local import helpers
from tests.support.waiting import until


@pytest.fixture
async def dockerd(state: Path) -> AsyncIterator[docker.DockerEngine]:
    made = docker.DockerEngine(state, configured=None, say=print, own=True)
    async with helpers.running(made):
        yield made


async def _killed_before_it_wrote(dockerd: docker.DockerEngine, container: str) -> None:
    """As between `die` and its record: containerd has forgotten the container, and the file says it runs."""
    record = next((dockerd.folder / "data" / "containers").glob(f"{container}*/config.v2.json"))
    os.kill(int((dockerd._run / "engine.pid").read_text()), signal.SIGKILL)
    await until(dockerd.has_died)
    held: Any = json.loads(record.read_text())
    held["State"] |= {"Running": True, "Pid": 999_999, "ExitCode": 0, "FinishedAt": "0001-01-01T00:00:00Z"}
    record.write_text(json.dumps(held))
    await asyncio.sleep(1.5)  # no shorter an outage counts: moments differ by as much
    await dockerd.restart()


@pytest.mark.parametrize("code", [3, 0])
async def test_what_was_heard_goes_before_what_it_believes_then(
    dockerd: docker.DockerEngine, code: int
) -> None:
    engine, heard = DockerEngine(dockerd.host), list[Any]()

    async def listen() -> None:
        with suppress(Unavailable):  # the engine is killed
            async for hint in engine.events():
                heard.append(hint)

    listening = asyncio.create_task(listen())
    await until(lambda: heard)
    made = await engine.create(
        ContainerSpec(name="ends", image="busybox:test", command=("sh", "-c", f"exit {code}"))
    )
    await engine.start(made)

    async def ended() -> bool:
        found = await engine.find(made)
        return found is not None and found.state == "exited"

    await until(ended)
    before = await engine.find(made)
    await _killed_before_it_wrote(dockerd, made)
    nobody = DockerEngine(dockerd.host)
    said = await nobody.find(made)
    assert said is not None and said.exit_code == 0, "this engine does not forget: then this may go"
    with capture_logs() as lines:
        found = await engine.find(made)
    assert found is not None and before is not None and found.finished_at is not None
    assert (found.exit_code, found.state) == (code, "exited")
    assert before.finished_at is not None and said.finished_at is not None
    assert abs(found.finished_at - before.finished_at) < abs(said.finished_at - before.finished_at)
    assert [line["event"] for line in lines] == ["engine forgot an end"]
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    for each in (engine, nobody):
        await each.close()

"""Whether an engine has begun anew, as a real one tells: by what it remembers, and how far back that goes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from service.local import docker, engine_api
from service.supervisor.engine.docker import DockerEngine
from service.supervisor.engine.protocol import Container, ContainerSpec
from service.supervisor.engine.recent import FULL, KEPT
from tests.local import helpers
from tests.support.waiting import until

LABELS = {"jobyard.test": "began-anew"}


async def _begun(engine: DockerEngine) -> Container:
    spec = ContainerSpec(name="runs-on", image="busybox:test", command=("sleep", "600"), labels=LABELS)
    made = await engine.create(spec)
    await engine.start(made)
    found = await engine.find(made)
    assert found is not None and found.state == "running"
    return found


async def _others(host: str, events: int) -> None:
    """So much happens to what is no container: an image is named."""
    async with engine_api.session(host, timeout_s=60) as http:
        for _ in range(events):
            where = "/images/busybox:test/tag"
            async with http.post(where, params={"repo": "busybox", "tag": "again"}) as said:
                assert said.status == 201, await said.text()


async def test_it_keeps_256_events_of_all_kinds_and_none_from_before_its_start(state: Path) -> None:
    dockerd = docker.DockerEngine(state, configured=None, say=print, own=True)
    async with helpers.running(dockerd):
        engine = DockerEngine(dockerd.host)
        found = await _begun(engine)
        await _others(dockerd.host, FULL)
        assert await engine.was_started(LABELS)
        assert not await engine.began_anew(LABELS)
        await _others(dockerd.host, KEPT - FULL)
        assert not await engine.was_started(LABELS), "of more it keeps some, and then the bound may be raised"
        assert not await engine.began_anew(LABELS), "it has only forgotten"
        await engine.close()
        await _killed(dockerd)
        engine = DockerEngine(dockerd.host)
        again = await engine.find(found.id)
        assert again is not None and (again.state, again.started_at) == ("running", found.started_at)
        assert await engine.began_anew(LABELS), "what remembers little has begun a short while ago"
        await engine.remove(found.id, force=True)
        await engine.close()


async def _killed(dockerd: docker.DockerEngine) -> None:
    os.kill(int((dockerd._run / "engine.pid").read_text()), signal.SIGKILL)
    await until(dockerd.has_died)
    await dockerd.restart()

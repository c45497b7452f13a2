"""A service with parts of its own, each of which is killed alone: it comes back, and nothing is lost."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from service.local import engine_api, processes
from tests import images
from tests.acceptance import running
from tests.acceptance.crashing import Ground, Up, containers
from tests.support.waiting import until

DEADLINE_S = 60.0
WORKS = "while [ ! -e /v/go ]; do sleep 0.05; done; echo said; echo weights > /v/model"


@dataclass
class OwnGround(Ground):
    """Nothing is given from outside: Postgres, dockerd and the object store are the service's own."""

    def environment(self, **changed: str) -> dict[str, str]:
        given = super().environment(**changed)
        return {name: value for name, value in given.items() if name not in ("DATABASE_URL", "DOCKER_HOST")}

    def process(self, pidfile: str) -> processes.Process | None:
        return processes.adopt(pidfile, self.state / pidfile)

    async def kill(self, pidfile: str) -> None:
        """`kill -9` of one part; returns when another process runs in its place."""
        killed = self.process(pidfile)
        assert killed is not None and killed.send(signal.SIGKILL) and await killed.ended(10)

        def another_runs() -> bool:
            now = self.process(pidfile)
            return now is not None and now != killed

        await until(another_runs, DEADLINE_S, what=f"another process in {pidfile}")


@pytest.fixture
def ground() -> Iterator[OwnGround]:
    state = running.new_state()
    # A state directory that has a dockerd keeps to it, whatever else the machine has.
    (state / "docker" / "data").mkdir(parents=True)
    yield OwnGround(state, f"postgresql://postgres@/jobyard?host={state / 'postgres' / 'data'}", "")
    running.remove(state)


@pytest.fixture
async def up(ground: OwnGround, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Up]:
    async with ground.up() as up:
        monkeypatch.setenv("DOCKER_HOST", up.told["dockerHost"])
        images.import_busybox()
        try:
            yield up
        finally:
            if up.process.returncode is None:
                await engine_api.remove_all(up.told["dockerHost"])


def work(ground: Ground, job: str) -> Path:
    """The file for which the job of WORKS waits."""
    return ground.state / "volumes" / job / "1" / "0" / "go"


async def submit(up: Up) -> str:
    store = {"alias": "local", "container": "results"}
    volumes = [{"mountPath": "/v", "permission": "RW", "dataStore": store}]
    return await up.submit("sh", "-c", WORKS, volumes=volumes)


async def reach(up: Up, job: str, state: str) -> dict[str, Any]:
    """The job, once it is in `state`: asked over HTTP, as users do, who try again on 503."""
    found: dict[str, Any] = {}

    async def is_there() -> bool:
        status, answer = await up.call("GET", f"/v1/job/{job}")
        assert status in (200, 503), (status, answer)
        found.update(answer)
        return status == 200 and bool(answer["status"]["state"] == state)

    await until(is_there, DEADLINE_S, what=f"{job} {state}")
    return found


async def is_ready(up: Up) -> bool:
    status, _ = await up.call("GET", "/readyz")
    assert status in (200, 503), status
    return status == 200


async def log_of(up: Up, job: str) -> str:
    async with up.http.get(f"{up.told['url']}/v1/job/{job}/log") as response:
        return await response.text()


async def test_a_job_runs_on_while_dockerd_is_killed(ground: OwnGround, up: Up) -> None:
    job = await submit(up)
    before = (await reach(up, job, "RUNNING"))["status"]
    (container,) = await containers(job)

    await ground.kill("docker/dockerd.pid")
    await until(lambda: engine_api.answers(up.told["dockerHost"]), DEADLINE_S)

    (same,) = await containers(job)
    assert (same["Id"], same["State"]) == (container["Id"], "running")
    assert (await reach(up, job, "RUNNING"))["status"]["startedAt"] == before["startedAt"]
    work(ground, job).touch()
    await reach(up, job, "DONE")
    # On a busy machine the engine is away for so long that the log says where lines may be missing.
    printed = [line for line in (await log_of(up, job)).splitlines() if not line.startswith("[jobyard]")]
    assert printed == ["said"]
    assert "the Docker Engine ended by itself; starting it again" in ground.said()
    events, bills = await ground.recorded(job)
    assert [event.type for event in events].count("RunStarted") == 1 and len(bills) == 1


async def test_postgres_and_the_object_store_come_back(ground: OwnGround, up: Up) -> None:
    job = await submit(up)
    await reach(up, job, "RUNNING")

    await ground.kill("postgres.pid")
    await until(lambda: is_ready(up), DEADLINE_S)
    assert (await reach(up, job, "RUNNING"))["id"] == job, "what was answered is kept"

    await ground.kill("s3.pid")
    await until(lambda: store_answers(up.told["s3"]["endpoint"]), DEADLINE_S)

    work(ground, job).touch()
    await reach(up, job, "DONE")
    assert (ground.state / "s3" / "results" / "model").read_text() == "weights\n"
    await ground.verify()


async def store_answers(endpoint: str) -> bool:
    try:
        async with aiohttp.ClientSession() as http, http.get(endpoint) as response:
            return 400 <= response.status < 500  # nobody signed this request
    except aiohttp.ClientError:
        return False

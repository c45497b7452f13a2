"""GPUs by device id, index or UUID: on a simulated node that has some, and on a real engine that has none."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.domain.asked import ResourcesAsked
from service.domain.states import State
from service.supervisor.engine.docker import DockerEngine
from service.supervisor.names import JOB
from tests.supervisor.lab import RUNS_ON
from tests.supervisor.relay import Relay
from tests.supervisor.world import fake_engine, world

UUIDS = ("GPU-6f1a1f6e-0000-4000-8000-000000000001", "GPU-6f1a1f6e-0000-4000-8000-000000000002")


@pytest.mark.parametrize("devices", [("0", "1"), UUIDS], ids=["index", "uuid"])
async def test_each_device_has_one_job_and_comes_back(
    template_database: str, tmp_path: Path, devices: tuple[str, ...]
) -> None:
    engine = fake_engine(gpu_driver=True)
    async with world(template_database, tmp_path / "state", engine, node_gpus=devices) as made:
        async with made.supervised():
            one = ResourcesAsked(gpu=1)
            first, second = (
                await made.submit(RUNS_ON, resources=one),
                await made.submit(RUNS_ON, resources=one),
            )
            for job in (first, second):
                await made.reach(job, State.RUNNING)
            both = await made.submit(RUNS_ON, resources=ResourcesAsked(gpu=2))
            waiting = await made.told(both, "waiting-for-gpu")
            assert waiting.info.arguments["needed"] == 2
            too_many = await made.submit(RUNS_ON, resources=ResourcesAsked(gpu=3))
            reason = (await made.told(too_many, "no-node-offers")).info
            assert (reason.arguments["needed"], reason.arguments["offered"]) == (3, 2)
            for job in (first, second):
                await made.kill(job)
            running = await made.reach(both, State.RUNNING)
        assert running.gpus == devices
        # The first two are made side by side, in either order.
        had = [(spec.labels[JOB], spec.gpus) for spec in engine.specs]
        of_two = [(str(first), devices[:1]), (str(second), devices[1:])]
        assert (sorted(had[:2]), had[2:]) == (sorted(of_two), [(str(both), devices)])
        held = [(await made.ledger.job(job)).gpus for job in (first, second)]
        assert held == [devices[:1], devices[1:]]


async def test_devices_stay_with_their_job_over_a_restart(template_database: str, tmp_path: Path) -> None:
    engine = fake_engine(gpu_driver=True)
    async with world(template_database, tmp_path / "state", engine, node_gpus=UUIDS) as made:
        one = ResourcesAsked(gpu=1)
        async with made.supervised():
            first = await made.submit(RUNS_ON, resources=one)
            await made.reach(first, State.RUNNING)
        second = await made.submit(RUNS_ON, resources=one)
        async with made.supervised():
            assert (await made.reach(second, State.RUNNING)).gpus == UUIDS[1:]


async def test_a_gpu_flavor_is_billed_by_its_units(template_database: str, tmp_path: Path) -> None:
    engine = fake_engine(gpu_driver=True)
    async with world(template_database, tmp_path / "state", engine, node_gpus=UUIDS) as made:
        async with made.supervised():
            job = await made.submit(RUNS_ON, resources=ResourcesAsked(gpu=2))
            await made.reach(job, State.RUNNING)
            await made.kill(job)
            await made.end(job)
        line = await made.bill(job)
    assert (line.kind, line.units, str(line.amount)) == ("gpu", 2, "0.064333")


async def test_an_engine_without_a_driver(template_database: str, tmp_path: Path, busybox: str) -> None:
    """The node was configured with a GPU that its engine cannot hand out: our fault, said so, and credited.
    What was asked of the engine is what an engine with a driver would have needed."""
    async with Relay(tmp_path / "docker.sock") as relay:
        engine = DockerEngine(relay.host)
        async with world(template_database, tmp_path / "state", engine, node_gpus=("0",)) as made:
            async with made.supervised() as supervisor:
                job = await made.submit(RUNS_ON, image=busybox, resources=ResourcesAsked(gpu=1))
                ended = await made.end(job)
                assert await made.log(job) == ""
                assert supervisor.ready.is_set()
            assert (ended.state, ended.info.code) == (State.ERROR, "no-gpu-driver")
            assert "NVIDIA Container Toolkit" in ended.info.message
            assert (await made.bill(job)).credited
        await engine.close()
        asked = [body for body in relay.bodies() if "HostConfig" in body]
    requests = [{"Driver": "nvidia", "DeviceIDs": ["0"], "Capabilities": [["gpu"]]}]
    assert {len(asked)} <= {1, 2}, "with a bound on its storage, and without one if that is refused"
    assert [body["HostConfig"]["DeviceRequests"] for body in asked] == [requests] * len(asked)
    assert asked[0]["HostConfig"]["StorageOpt"] == {"size": str(1024**3)}

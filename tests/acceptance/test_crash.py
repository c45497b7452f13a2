"""The whole service, killed at every step of a job, interrupted, started twice, and asked too much."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from service.cli.exits import Exit
from service.local import throwaway
from service.supervisor.data import Source, Store, StoreAccess
from tests.acceptance import running
from tests.acceptance.crashing import Ground, HeldEngine, Up, Witness, containers
from tests.data.server import the_store
from tests.data.sync import fill
from tests.images import import_busybox, remove_network
from tests.supervisor.bills import bill
from tests.supervisor.door import Door
from tests.support import databases
from tests.support.waiting import until

AWAY = timedelta(minutes=10)
WORKS = "i=0; while [ ! -e /v/go ]; do sleep 0.05; done; echo weights > /v/model; cat /in/word"


@pytest.fixture(scope="module")
def state(parts: None) -> Iterator[Path]:
    """One state directory, and so one object store, for all tests of this file."""
    import_busybox()
    made = running.new_state()
    yield made
    throwaway.remove(made)


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[HeldEngine]:
    async with HeldEngine(tmp_path / "docker.sock") as held:
        yield held


@pytest.fixture
async def ground(state: Path, engine: HeldEngine) -> AsyncIterator[Ground]:
    async with databases.a_database() as url:
        (state / "up.log").write_text("")
        ground = Ground(state, url, engine.host)
        yield ground
        async with ground.ledger() as ledger:
            ledger_id = (await ledger.head()).ledger_id
        try:
            remove_network(f"jobyard-{str(ledger_id)[:8]}-default")
        except RuntimeError as error:
            if ": 404 " not in str(error):
                raise


@pytest.fixture
async def door(parts: None) -> AsyncIterator[Door]:
    with the_store() as access:
        async with Door(access) as made:
            yield made


async def add_store(up: Up, access: StoreAccess) -> None:
    keys = {"accessKey": access.access_key, "secretKey": access.secret_key, "region": access.region}
    body = {"alias": "held", "type": "s3", "endpoint": access.endpoint, "credentials": {"s3": keys}}
    await up.ok("POST", "/v1/datastore", body)


@pytest.mark.parametrize("at", ["INITIALIZING", "before create", "after create", "RUNNING", "FINALIZING"])
async def test_a_service_that_is_killed(ground: Ground, engine: HeldEngine, door: Door, at: str) -> None:
    """`kill -9` of all of it: the next one brings the job to its end, in one container, at the same price."""
    container = f"crash-{uuid4().hex[:12]}"
    store = {"alias": "held", "container": container}
    read = {"alias": "held", "container": f"{container}-in"}
    volumes = [
        {"mountPath": "/v", "permission": "RW", "dataStore": store},
        {"mountPath": "/in", "permission": "RO", "dataStore": read, "cache": True},
    ]
    async with Store.open(door.behind) as behind:
        await behind.ensure_container(read["container"])
        await fill(behind, Source(read["container"]), {"word": b"said\n"})
    async with Witness().watching() as witness:
        async with ground.up() as up:
            await add_store(up, door.access)
            if at == "INITIALIZING":
                door.hold()
                door.knocked.clear()
            engine.hold = at.removesuffix(" create") if "create" in at else ""
            job = await up.submit("sh", "-c", WORKS, volumes=volumes)
            go = ground.state / "volumes" / job / "1" / "0" / "go"
            if at == "INITIALIZING":
                await door.knocked.wait()
            elif "create" in at:
                await engine.reached.wait()
            else:
                await up.reach(job, "RUNNING")
            if at == "FINALIZING":
                door.hold()
                door.knocked.clear()
                go.touch()
                await up.reach(job, "FINALIZING")
                await door.knocked.wait()
            seen = (await up.reach(job, "INITIALIZING", "PENDING", "RUNNING", "FINALIZING"))["status"][
                "state"
            ]
            assert seen == ("PENDING" if "create" in at else at)
            await up.kill()
        door.open()
        async with ground.up() as up:
            if at != "FINALIZING":
                await up.reach(job, "RUNNING")
                go.touch()
            ended = await up.reach(job, "DONE", "FAILED", "ERROR", "INTERRUPTED")
            async with up.http.get(f"{up.told['url']}/v1/job/{job}/log") as response:
                assert await response.text() == "said\n"
        assert len(witness.created[job]) == 1
    assert ended["status"]["state"] == "DONE", ended["status"]["info"]
    assert await containers(job) == []
    events, bills = await ground.recorded(job)
    assert [event.type for event in events].count("RunAdopted") == 1
    assert [(line.run, line.minutes, str(line.amount)) for line in bills] == [(1, 1, "0.000500")]
    if at != "RUNNING":  # a container that runs is worth its price
        assert bill(events, away=AWAY).amount == bill(events).amount
    await ground.verify()


async def test_ctrl_c_leaves_nothing_but_the_containers(ground: Ground) -> None:
    async with ground.up("--api-workers", "2") as up:
        job = await up.submit("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done")
        before = (await up.reach(job, "RUNNING"))["status"]
        session = up.process.pid
        assert len(_processes_of(ground)) >= 2
        assert await up.stop() == 0, ground.said()
    assert not (ground.state / "up.json").exists()
    assert _processes_of(ground) == {}, f"left by {session}"
    (left,) = await containers(job)
    assert left["State"] == "running"
    async with ground.up() as up:
        again = (await up.reach(job, "RUNNING"))["status"]
        assert again["startedAt"] == before["startedAt"]
        await up.ok("PUT", f"/v1/job/{job}/kill")
        await up.reach(job, "INTERRUPTED")
    events, _ = await ground.recorded(job)
    (adopted,) = [event for event in events if event.type == "RunAdopted"]
    (started,) = [event for event in events if event.type == "RunStarted"]
    assert (adopted.body.epoch, started.body.container_id) == (2, left["Id"])


def _processes_of(ground: Ground) -> dict[int, str]:
    """Processes that work for this service: their arguments or environment name its state or database."""
    found = {}
    names = (str(ground.state).encode(), ground.database_url.encode())
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        try:
            command = (process / "cmdline").read_bytes()
            known = command + (process / "environ").read_bytes()
        except OSError:
            continue
        if command and any(name in known for name in names):
            found[int(process.name)] = command.replace(b"\0", b" ").decode()
    return found


async def test_a_second_service_in_the_same_place(ground: Ground) -> None:
    async with ground.up() as up:
        words = ("up", "--state", str(ground.state), "--port", "0")
        streams = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE}
        async with (
            running.started(*words, env=ground.environment(), **streams) as second,
            asyncio.timeout(60),
        ):
            _, said = await second.communicate()
        assert second.returncode == Exit.USAGE
        assert said.decode().strip().splitlines()[-1] == (
            f"jobyard: {ground.state} is in use by another Jobyard (process {up.process.pid}):"
            " stop it, or choose another directory"
        )
        assert "Traceback" not in said.decode()
        assert json.loads((ground.state / "up.json").read_text()) == up.told
        await up.ok("GET", "/v1/me")


async def test_several_api_processes_never_exceed_a_quota(ground: Ground) -> None:
    """Each decides under the ledger's one lock. They listen where the command line says."""
    nowhere = {"JOBYARD_NODE_MEMORY": "1", "JOBYARD_DEFAULT_QUOTA_CPU": "10"}
    async with ground.up("--api-workers", "2", "--host", "127.0.0.2", **nowhere) as up:
        assert up.told["url"].startswith("http://127.0.0.2:")
        body = {"image": "jobyard-test/busybox:1", "resources": {"cpu": 1}}
        answers = await asyncio.gather(*(up.call("POST", "/v1/job", body) for _ in range(200)))
        statuses = [status for status, _ in answers]
        assert (statuses.count(200), statuses.count(403)) == (10, 190)
        refusal = next(answer for status, answer in answers if status == 403)
        assert "quota of 10 CPU" in refusal["message"]
        waiting = await up.ok("GET", "/v1/job?statusState=QUEUED")
        assert waiting["metadata"]["total"] == 10
    await ground.verify()


async def test_one_worker_that_dies_is_replaced(ground: Ground) -> None:
    def workers() -> set[int]:
        return {pid for pid, command in _processes_of(ground).items() if "service.local.workers" in command}

    async with ground.up("--api-workers", "2") as up:
        before = workers()
        assert len(before) == 2
        os.kill(min(before), 9)
        await until(lambda: len(workers() - before) == 1, 60, what="a new worker")
        await up.ok("GET", "/v1/me")

"""SIGTERM while the service is used, and the next version after it: nobody notices but by a word."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.cli.exits import Exit
from service.local import throwaway
from sql import migrations
from tests.acceptance import running
from tests.acceptance.crashing import Ground, Up, Witness, containers
from tests.chaos.upgrade.slow import is_refused, submitting
from tests.images import BUSYBOX, docker_socket, import_busybox, remove_network
from tests.supervisor.bills import bill
from tests.support import databases
from tests.support.chaos import Chaos
from tests.support.waiting import until

ROOT = Path(__file__).parents[3]
WORKS = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done")
NEWEST = migrations()[-1].version
#: A lease that nobody would get by waiting for its end.
LONG = {"JOBYARD_LEASE_TTL_S": "600"}


@pytest.fixture(scope="module")
def state(parts: None) -> Iterator[Path]:
    import_busybox()
    made = running.new_state()
    yield made
    throwaway.remove(made)


@pytest.fixture
async def ground(state: Path) -> AsyncIterator[Ground]:
    async with databases.a_database() as url:
        (state / "up.log").write_text("")
        ground = Ground(state, url, f"unix://{docker_socket()}")
        yield ground
        async with ground.ledger() as ledger:
            ledger_id = (await ledger.head()).ledger_id
        remove_network(f"jobyard-{str(ledger_id)[:8]}-default")


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The program, to be changed."""
    tree = tmp_path / "tree"
    for room in ("service", "projections", "sql"):
        shutil.copytree(ROOT / room, tree / room, ignore=shutil.ignore_patterns("__pycache__"))
    return tree


@pytest.fixture
def tomorrow(copied: Path) -> Path:
    """The next version of the program: it has one more migration."""
    tree = copied
    (tree / f"sql/migrations/{NEWEST + 1:04}_tomorrow.sql").write_text("CREATE TABLE tomorrow (x int);\n")
    return tree


async def test_the_next_version_goes_on_where_this_one_was_stopped(
    ground: Ground, tomorrow: Path, chaos: Chaos
) -> None:
    async with Witness().watching() as witness:
        async with ground.up("--api-workers", "2", **LONG) as up:
            job = await up.submit(*WORKS)
            before = (await up.reach(job, "RUNNING"))["status"]
            late = await stopped_while_used(up)
        (left,) = await containers(job)
        assert left["State"] == "running"
        async with ground.ledger() as ledger:
            assert [lease.held for lease in await ledger.leases()] == [False]
            assert str((await ledger.jobs("default", limit=1))[0][0].id) == late
        ground.tree = tomorrow
        async with ground.up(**LONG) as up:
            again = (await up.reach(job, "RUNNING"))["status"]
            assert again["startedAt"] == before["startedAt"]
            await up.reach(late, "DONE")
            await up.ok("PUT", f"/v1/job/{job}/kill")
            ended = await up.reach(job, "INTERRUPTED")
        for found in (witness.created, witness.started):
            assert [len(found[each]) for each in (job, late)] == [1, 1]
    states = [visit["state"] for visit in ended["status"]["history"]]
    wanted = ["QUEUED", "INITIALIZING", "PENDING", "RUNNING", "INTERRUPTING", "FINALIZING", "INTERRUPTED"]
    assert states == wanted
    events, lines = await ground.recorded(job)
    assert [event.type for event in events].count("RunAdopted") == 1
    undisturbed = bill(events)
    assert [(line.run, line.minutes, line.amount) for line in lines] == [
        (1, undisturbed.minutes, undisturbed.amount)
    ]
    await ground.verify()
    await refuses_what_is_newer(ground)
    chaos.told("stopped in order and upgraded", answered=1, adopted=1, lost=0, twice=0)


async def test_one_that_does_not_wait_for_its_requests_is_found_out(ground: Ground, copied: Path) -> None:
    """The planted bug: asked to stop, it ends where it stands, and says that all went well. Without it, all
    goes well in one process, too."""
    file = copied / "service/local/up.py"
    text, planted = re.subn(
        r"(\n +)is_there = await _until_asked\(.*\)", r"\g<0>\1os._exit(0)", file.read_text()
    )
    assert planted == 1
    file.write_text(text)
    ground.tree = copied
    async with ground.up() as up:
        job = await up.submit(*WORKS)
        await up.reach(job, "RUNNING")
        with pytest.raises(AssertionError, match="1012"):
            await stopped_while_used(up)
        assert await up.process.wait() == 0
    ground.tree = ROOT
    async with ground.up() as up:
        await up.ok("PUT", f"/v1/job/{job}/kill")
        await up.reach(job, "INTERRUPTED")
        await stopped_while_used(up)


async def stopped_while_used(up: Up) -> str:
    """SIGTERM in the middle of a request and of two streams; the job that the request submitted."""
    url = f"{up.told['url']}/v1/events"
    stream: Any = {"Accept": "text/event-stream"}
    body = {"image": BUSYBOX, "command": ["true"], "resources": {"cpu": 1}}
    async with (
        up.http.ws_connect(url) as socket,
        up.http.get(url, headers=stream) as events,
        submitting(up, body) as slow,
    ):
        await socket.receive()
        up.process.send_signal(signal.SIGTERM)
        while not socket.closed:
            await socket.receive()
        assert socket.close_code == 1012
        last = [line async for line in events.content if line.startswith(b"data: ")][-1]
        assert json.loads(last.removeprefix(b"data: "))["code"] == 1012
        await until(lambda: is_refused(up), 60, what="nobody listens any more")
        assert up.process.returncode is None, "it waits for the request"
        status, answer = await slow.answer()
        assert status == 200, answer
    assert await up.process.wait() == 0
    return str(answer["id"])


async def refuses_what_is_newer(ground: Ground) -> None:
    """The version of before, started again by mistake."""
    ground.tree = ROOT
    (ground.state / "up.log").write_text("")
    process = await ground.run()
    assert await process.wait() == Exit.USAGE
    said = ground.said().strip().splitlines()[-1]
    wanted = f"jobyard: the database is at schema {NEWEST + 1}; this version knows {NEWEST}: upgrade it"
    assert said == wanted


async def test_asked_to_stop_twice_it_stops_at_once(ground: Ground) -> None:
    """The first time it would wait for the request; and the next one finds everything as after a kill."""
    body = {"image": BUSYBOX, "command": ["true"], "resources": {"cpu": 1}}
    async with ground.up("--api-workers", "2") as up:
        job = await up.submit(*WORKS)
        await up.reach(job, "RUNNING")
        async with submitting(up, body):
            up.process.send_signal(signal.SIGTERM)
            await until(lambda: is_refused(up), 60, what="nobody listens any more")
            up.process.send_signal(signal.SIGTERM)
            assert await up.process.wait() == 128 + signal.SIGTERM
        await until(lambda: not workers_of(ground), 60, what="the workers end with it")
    async with ground.up() as up:
        await up.ok("PUT", f"/v1/job/{job}/kill")
        await up.reach(job, "INTERRUPTED")


def workers_of(ground: Ground) -> list[int]:
    """API processes of this service's database."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            command = (process / "cmdline").read_bytes() if process.name.isdigit() else b""
            if (
                b"service.local.workers" in command
                and os.fsencode(ground.database_url) in (process / "environ").read_bytes()
            ):
                found.append(int(process.name))
        except OSError:
            continue
    return found

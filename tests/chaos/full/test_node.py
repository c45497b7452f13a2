"""The node's disk fills up: no run begins, what runs ends well, and all goes on when there is space again."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from service.domain.events import AdmissionSet, Event, Info, RunPlaced, SupervisorStarted
from service.domain.room import DISK_FULL, MEMORY_FULL
from service.domain.states import State
from service.ledger import database, verify
from service.supervisor import admission
from tests.chaos.full.conftest import RESERVE_BYTES
from tests.supervisor.bucket import Bucket
from tests.supervisor.lab import DONE, Behaviour, shell
from tests.supervisor.world import World, volume
from tests.support.chaos import Chaos
from tests.support.mounts import MIB, Ballast
from tests.support.waiting import until

#: Waits for SIGTERM, then writes what is to be pushed, says so, and ends well.
WRITES_AT_THE_END = shell(
    "trap 'head -c 1048576 /dev/zero > /out/result; echo written; exit 0' TERM; echo ready; "
    "while :; do sleep 0.05; done"
)
FILLS_ITS_LOG = shell("echo ready; while [ ! -e /out/go ]; do sleep 0.05; done; seq 1 20000; exit 3")


def placed_while_full(events: list[Event]) -> int:
    """How many runs were placed between a word that none begins and the next that they do again."""
    stopped: Info | None = None
    found = 0
    for event in events:
        if isinstance(event.body, AdmissionSet):
            stopped = event.body.stopped
        elif isinstance(event.body, SupervisorStarted):
            stopped = None
        elif isinstance(event.body, RunPlaced) and stopped is not None:
            found += 1
    return found


async def waits_while_full(world: World, ballast: Ballast) -> UUID:
    """A job that comes while less than the reserve is free."""
    ballast.leave(RESERVE_BYTES - MIB)
    await until(lambda: stopped(world, DISK_FULL))
    return await world.submit(DONE)


async def stopped(world: World, code: str) -> bool:
    told = [event.body.stopped for event in await world.events() if isinstance(event.body, AdmissionSet)]
    return (told[-1].code if told and told[-1] else "") == code


async def test_a_node_that_is_full_begins_nothing_and_ends_what_runs_well(
    on_small_disk: World, disk: Path, bucket: Bucket, chaos: Chaos
) -> None:
    """First too little memory, then less disk than the reserve, then none at all, in one yard."""
    world, ballast = on_small_disk, Ballast(disk)
    # As if all of the memory were to be kept free; a supervisor with another reserve goes on.
    async with world.supervised(memory_reserve_bytes=2**50):
        first = await world.submit(
            runs(WRITES_AT_THE_END), volumes=[volume("/out", "RW", bucket.name, "out/")]
        )
        assert (await world.told(first, MEMORY_FULL)).state is State.QUEUED
    async with world.supervised():
        second = await world.submit(runs(FILLS_ITS_LOG), volumes=[volume("/out", "RW")])
        for job in (first, second):
            await world.reach(job, State.RUNNING)
            await world.printed(job)
        late = await waits_while_full(world, ballast)
        waits = await world.told(late, DISK_FULL)
        assert (waits.state, waits.info.arguments["place"]) == (State.QUEUED, "state")
        await ends_with_its_results(world, first, bucket)
        lines = await keeps_its_log(world, second, ballast)
        assert (await world.end(late)).state is State.DONE
    placed = placed_while_full(await world.events())
    assert placed == 0
    await verified(world)
    chaos.told("disk below its reserve", placed_meanwhile=placed, went_on_by_itself="yes")
    chaos.told("disk without a byte left", log_lines_lost=20001 - lines)


async def ends_with_its_results(world: World, job: UUID, bucket: Bucket) -> None:
    """The reserve is what it writes and pushes at its end with."""
    await world.kill(job)
    assert (await world.end(job)).state is State.INTERRUPTED
    assert (await bucket.holds())["out/result"] == bytes(MIB)
    assert "written" in await world.log(job)


async def keeps_its_log(world: World, job: UUID, ballast: Ballast) -> int:
    """Nothing is left: its log cannot be kept, so it waits in FINALIZING, says why, and is whole after
    there is space again; how many lines its log has."""
    ballast.leave_nothing()
    (world.volume(job) / "go").touch()
    waits = await world.told(job, DISK_FULL)
    assert waits.state is State.FINALIZING
    assert waits.verdict is not None
    ballast.drop()
    ended = await world.end(job)
    assert (ended.state, ended.info.code, ended.exit_code) == (State.FAILED, "exit-code", 3)
    lines = (await world.log(job)).splitlines()
    assert lines == ["ready", *map(str, range(1, 20001))]
    return len(lines)


async def test_the_harness_finds_a_supervisor_without_the_watermark(
    on_small_disk: World, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted bug: it looks and tells, and begins runs all the same."""

    async def blind(_self: admission.Admission) -> None:
        return None

    monkeypatch.setattr(admission.Admission, "now", blind)
    monkeypatch.setattr(admission.Admission, "stopped", None)
    async with on_small_disk.supervised():
        late = await waits_while_full(on_small_disk, Ballast(disk))
        await on_small_disk.end(late)
    assert placed_while_full(await on_small_disk.events()) == 1


def runs(command: tuple[str, ...]) -> Behaviour:
    """On the real engine."""
    return Behaviour(command, DONE.script)


async def verified(world: World) -> None:
    """The ledger is whole: its chain holds."""
    connection = await database.connect(world.url)
    try:
        await verify.verify(connection)
    finally:
        await connection.close()

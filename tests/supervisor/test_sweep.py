"""Putting away what no live run owns, and leaving everything else alone."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from service.domain.events import SupervisorStarted
from service.domain.states import State
from service.errors import EngineError, Misconfigured, NodeFull
from service.supervisor import container, shift
from service.supervisor.data import prepare
from service.supervisor.driver import FAILURES
from service.supervisor.effects import Yard
from service.supervisor.engine.protocol import Container, ContainerSpec
from service.supervisor.logs.keeper import LogKeeper
from service.supervisor.names import JOB, RunId, run_labels
from tests.images import BUSYBOX
from tests.supervisor.bucket import Bucket
from tests.supervisor.door import Door
from tests.supervisor.lab import DONE, IGNORES_SIGTERM, RUNS_ON, Behaviour
from tests.supervisor.world import PROJECT, World, volume
from tests.support.engine.scripted import Script
from tests.support.waiting import until


async def leave(world: World, ledger: UUID, run: RunId, behaviour: Behaviour, *, start: bool = True) -> str:
    """A container as a crash may leave it."""
    name = await world.name(run.job, run.run)
    await world.script(run.job, run.run, behaviour)
    spec = ContainerSpec(
        name=name,
        image=BUSYBOX,
        command=behaviour.command,
        labels=run_labels(ledger, run),
        network="none",
        memory_bytes=32 * 1024**2,
    )
    made = await world.engine.create(spec)
    if start:
        await world.engine.start(made)
    return made


async def gone(world: World, container: str) -> None:
    async def is_gone() -> bool:
        return await world.engine.find(container) is None

    await until(is_gone, what=f"container {container} is removed")


async def test_containers_of_runs_that_are_over_or_unknown(anywhere: World) -> None:
    world = anywhere
    ours, others = (await world.ledger.head()).ledger_id, uuid4()
    async with world.supervised():
        over = await world.submit(DONE)
        await world.end(over)
        live = await world.submit(RUNS_ON)
        await world.reach(live, State.RUNNING)
    waiting = await world.submit(cpu=9)
    # Engines list in either order: those that stay are among the first and the last.
    stay = [await leave(world, others, RunId(uuid4(), 1), RUNS_ON)]
    stay.append(await leave(world, ours, RunId(waiting, 1), RUNS_ON))
    doomed = [
        await leave(world, ours, RunId(over, 1), IGNORES_SIGTERM),
        await leave(world, ours, RunId(uuid4(), 1), RUNS_ON),
        await leave(world, ours, RunId(uuid4(), 7), DONE, start=False),
    ]
    stay.append(await leave(world, ours, RunId(waiting, 2), RUNS_ON))
    stay.append(await leave(world, others, RunId(uuid4(), 1), RUNS_ON))
    try:
        async with world.supervised():
            for container in doomed:
                await gone(world, container)
            found = [await world.engine.find(container) for container in stay]
            assert [each.state if each else "gone" for each in found] == ["running"] * 4
            assert (await world.container(live)).state == "running"
            await world.kill(live)
            assert (await world.end(live)).state is State.INTERRUPTED
    finally:
        for container in stay:
            await world.engine.remove(container, force=True)


async def test_an_earlier_run_of_a_live_job(on_fake: World) -> None:
    ours = (await on_fake.ledger.head()).ledger_id
    async with on_fake.supervised():
        job = await on_fake.submit(DONE)
        await on_fake.end(job)
        await on_fake.start(job)
        await on_fake.reach(job, State.RUNNING, run=2)
    left = await leave(on_fake, ours, RunId(job, 1), RUNS_ON)
    async with on_fake.supervised():
        await gone(on_fake, left)
        assert (await on_fake.container(job)).name == await on_fake.name(job, 2)


async def test_what_it_cannot_remove_now_it_removes_later(on_fake: World) -> None:
    """And planning does not wait for a container that takes its time to end."""
    ours = (await on_fake.ledger.head()).ledger_id
    left = await leave(on_fake, ours, RunId(uuid4(), 1), IGNORES_SIGTERM)
    stopping = on_fake.fake.gates.hold("stop")
    async with on_fake.supervised():
        await stopping.reached.wait()
        job = await on_fake.submit(DONE)
        assert (await on_fake.end(job)).state is State.DONE
        stopping.open.set()
        await gone(on_fake, left)


async def shifts(world: World) -> int:
    """How often one was begun."""
    return sum(isinstance(event.body, SupervisorStarted) for event in await world.events())


class Unhelpful:
    """A keeper of logs that fails at some runs, as nobody has thought of."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
        self.runs: set[UUID] = set()
        self.asked = 0
        finish = LogKeeper.finish

        async def failing(keeper: LogKeeper, job: UUID, run: int, container_id: str) -> None:
            if job in self.runs:
                self.asked += 1
                raise error
            await finish(keeper, job, run, container_id)

        monkeypatch.setattr(LogKeeper, "finish", failing)


@pytest.mark.parametrize(
    "error",
    [NodeFull("the disk is full"), Misconfigured("this is no log"), ValueError("1.log.bak")],
    ids=lambda error: type(error).__name__,
)
async def test_one_that_cannot_be_put_away_keeps_no_other_from_it(
    on_fake: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(shift, "SWEEP_S", 0.05)
    keeper = Unhelpful(monkeypatch, error)
    ours = (await on_fake.ledger.head()).ledger_id
    stays = await leave(on_fake, ours, RunId(uuid4(), 1), RUNS_ON)
    goes = [await leave(on_fake, ours, RunId(uuid4(), 1), RUNS_ON) for _ in range(2)]
    (found,) = [each for each in await on_fake.containers() if each.id == stays]
    keeper.runs = {UUID(found.labels[JOB])}
    async with on_fake.supervised():
        for container in goes:
            await gone(on_fake, container)
        await until(lambda: keeper.asked > 2, what="it is tried again")
        assert await shifts(on_fake) == 1, "it goes on"
        assert await on_fake.engine.find(stays) is not None
        keeper.runs = set()
        await gone(on_fake, stays)


async def test_an_engine_that_refuses_a_look_after_the_end_of_a_run(
    on_fake: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is over, and all others go on. Its log ends once the engine has said whether there is more."""
    monkeypatch.setattr(shift, "SWEEP_S", 0.05)
    looks = 0
    find = container.find

    async def refused(yard: Yard, run: RunId, *how: Any) -> Container | None:
        nonlocal looks
        job = yard.watch.jobs.get(run.job)
        if job is None:
            looks += 1
            if looks < 3:
                raise EngineError("the engine is out of order")
        return await find(yard, run, *how)

    monkeypatch.setattr(container, "find", refused)
    async with on_fake.supervised():
        job = await on_fake.submit(RUNS_ON, image="none.example/such:1")
        for _ in range(FAILURES):
            on_fake.fake.fail_next("image", error=EngineError("the engine is out of order"))
        assert (await on_fake.end(job)).state is State.ERROR
        await until(lambda: looks > 0, what="it is looked for")
        assert await on_fake.log(job) == ""
        assert await shifts(on_fake) == 1, "it goes on"


async def test_a_run_that_ended_with_an_error_leaves_a_whole_log(on_fake: World) -> None:
    """It is over in the ledger, but its container is not: the sweep stops it and keeps its last words."""
    refused = Behaviour((), Script(start_error=EngineError("the engine is out of order")))
    async with on_fake.supervised():
        job = await on_fake.submit(refused)
        ended = await on_fake.end(job)
        assert (ended.state, ended.info.code) == (State.ERROR, "engine-refused")
        assert await on_fake.log(job) == ""

        async def is_clean() -> bool:
            return await on_fake.containers() == []

        await until(is_clean, what="its container is removed")


async def test_volumes(on_fake: World) -> None:
    world = on_fake
    async with world.supervised():
        over = await world.submit(DONE)
        await world.end(over)
        live = await world.submit(RUNS_ON)
        await world.reach(live, State.RUNNING)
    roots = {job: world.volume(job) for job in (over, uuid4(), live)}
    for root in roots.values():
        await prepare(root)
        (root / "model").write_bytes(b"1")
    (world.settings.volumes_dir / "not-of-ours").mkdir()
    async with world.supervised():
        doomed = [root.parent for job, root in roots.items() if job != live]
        await until(lambda: not any(path.exists() for path in doomed), what="the volumes are removed")
        assert (roots[live] / "model").read_bytes() == b"1"
        assert (world.settings.volumes_dir / "not-of-ours").exists()


async def test_kept_volumes_go_with_their_job(stored_on_fake: World, bucket: Bucket, door: Door) -> None:
    world = stored_on_fake
    async with world.supervised():
        job = await world.submit(RUNS_ON, volumes=[volume("/out", "RW", bucket.name)])
        await world.reach(job, State.RUNNING)
        (world.volume(job) / "model").write_bytes(b"weights")
        door.shut()
        await world.fake.exit(await world.name(job), 0)
        assert (await world.end(job)).volumes_kept
    left = world.settings.user_volumes_dir / PROJECT / str(uuid4())
    left.mkdir(parents=True)
    async with world.supervised():
        await until(lambda: not left.exists(), what="a volume of nobody is removed, after those of runs")
        assert world.volume(job).exists()
    await world.delete(job)
    async with world.supervised():
        await until(lambda: not world.volume(job).exists(), what="the volume is removed")


async def test_a_mark_that_the_ledger_knows_nothing_of_keeps_nothing(on_fake: World) -> None:
    """As a crash leaves it: a push failed and the volumes were marked, the next attempt's push worked and was
    recorded, and they were not removed any more."""
    world = on_fake
    async with world.supervised():
        job = await world.submit(DONE)
        assert not (await world.end(job)).volumes_kept
    await prepare(world.volume(job))
    (world.volume(job).parent / "kept").touch()
    async with world.supervised():
        await until(lambda: not world.volume(job).exists(), what="the volume is removed")


async def test_kept_volumes_go_when_their_job_is_started_again_without_them(on_fake: World) -> None:
    world = on_fake
    async with world.supervised():
        job = await world.submit(DONE)
        await world.end(job)
    kept = world.volume(job)
    await prepare(kept)
    (kept.parent / "kept").touch()
    await world.start(job)
    async with world.supervised():
        await until(lambda: not kept.exists(), what="the volume is removed")


async def test_the_folder_of_a_job_that_nothing_is_left_in(on_fake: World) -> None:
    """As a crash leaves it, between the last run's folder and its job's."""
    volumes = on_fake.settings.volumes_dir
    empty, file = volumes / str(uuid4()), volumes / "file"
    empty.mkdir(parents=True)
    file.touch()
    async with on_fake.supervised():
        job = await on_fake.submit(RUNS_ON, volumes=[volume("/v", "RW")])
        await on_fake.reach(job, State.RUNNING)
        await until(lambda: not empty.exists(), what="the folder is removed")
        assert on_fake.volume(job).is_dir()
        await on_fake.kill(job)
        await on_fake.end(job)
    assert file.exists()

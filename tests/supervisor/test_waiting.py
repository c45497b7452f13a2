"""What a run waits for is noted once for each change; the past, planned again, says what was noted."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from projections.waiting import why
from projections.waiting.moments import walk
from projections.waiting.yard import MOVE_TYPES
from service.config import Settings
from service.domain.events import RunNoted
from service.domain.room import DISK_FULL
from service.domain.states import State
from service.errors import DiskFull, ImageUnavailable, NodeFull
from service.ledger import past
from service.supervisor import images
from service.supervisor.engine import image_ref
from service.supervisor.engine.pull import explained
from service.supervisor.engine.refusals import start_refused
from service.supervisor.engine.wire import Answer
from service.supervisor.engine.wire import refused as engine_refused
from service.supervisor.names import RunId
from service.supervisor.sync import move
from service.supervisor.waits import Waits
from service.supervisor.watch import Watch
from tests.supervisor.bucket import Bucket
from tests.supervisor.door import Door
from tests.supervisor.lab import DONE, RUNS_ON
from tests.supervisor.world import World, volume
from tests.unit.histories import in_state

IMAGE = "registry.example/team/tool:1"
FULL = Answer(500, {"message": "mkdir /var/lib/docker/overlay2/x: no space left on device"})


async def notes(world: World, job: UUID) -> list[str]:
    """The codes of all reasons that the job was given, in order."""
    return [event.body.info.code for event in await world.events(job) if isinstance(event.body, RunNoted)]


async def test_a_registry_that_does_not_answer(on_fake: World) -> None:
    world = on_fake
    world.settings = replace(world.settings, pull_attempts=4)
    world.fake.add_image(IMAGE, pulled=False)
    for _ in range(3):
        error = ImageUnavailable("the registry cannot be reached", passing=True, reason="unreachable")
        world.fake.fail_next("pull", error=error)
    async with world.supervised():
        job = await world.submit(DONE, image=IMAGE)
        waits = await world.told(job, "registry-not-answering")
        assert (waits.state, waits.info.arguments["registry"]) == (State.PENDING, "registry.example")
        await world.reach(job, State.RUNNING)
    assert await notes(world, job) == ["pulling-image", "registry-not-answering"], "once, not at each attempt"


@pytest.mark.parametrize(
    ("engine_says", "said"),
    [
        (
            "dial tcp: lookup registry.example: no such host",
            "cannot be pulled: registry registry.example cannot be reached.",
        ),
        ("read: connection refused", "cannot be pulled: registry registry.example cannot be reached."),
        (
            "x509: signed by unknown authority",
            "cannot be pulled from registry registry.example: the registry's TLS certificate is not "
            "accepted.",
        ),
        ("toomanyrequests: slow", "cannot be pulled: the registry asks to slow down."),
        (
            "no matching manifest for linux/amd64",
            "cannot be used: it has no linux/amd64 variant; it must be for linux/amd64.",
        ),
        ("something else", "cannot be pulled: something else."),
    ],
)
async def test_why_an_image_cannot_be_had_is_said_once(on_fake: World, engine_says: str, said: str) -> None:
    world = on_fake
    world.settings = replace(world.settings, pull_attempts=1)
    world.fake.add_image(IMAGE, pulled=False)
    error = explained(image_ref.parse(IMAGE), engine_says)
    world.fake.fail_next("pull", error=error)
    async with world.supervised():
        ended = await world.end(await world.submit(DONE, image=IMAGE))
    assert (ended.state, ended.info.message) == (State.FAILED, f"Image {IMAGE} {said}")


async def test_a_store_that_does_not_answer_the_pull(
    stored_on_fake: World, bucket: Bucket, door: Door
) -> None:
    world = stored_on_fake
    world.settings = replace(world.settings, store_attempts=200, retry_s=0.001)
    await bucket.put({"in/a": b"1"})
    door.shut()
    async with world.supervised():
        job = await world.submit(RUNS_ON, volumes=[volume("/in", "RO", bucket.name, "in/")])
        waits = await world.told(job, "data-not-answering")
        assert waits.state is State.INITIALIZING
        assert waits.info.arguments == {"direction": "pull", "mountPath": "/in"}
        door.open()
        await world.told(job, "data-answers")
        await world.reach(job, State.RUNNING)
    assert await notes(world, job) == ["data-not-answering", "data-answers"]


async def test_a_store_that_does_not_answer_the_push_leaves_the_verdict(
    stored_on_fake: World, bucket: Bucket, door: Door
) -> None:
    """While its data waits, that is why it is FINALIZING; then it ended as its process did."""
    world = stored_on_fake
    world.settings = replace(world.settings, store_attempts=200, retry_s=0.001)
    async with world.supervised():
        job = await world.submit(RUNS_ON, volumes=[volume("/out", "RW", bucket.name, "out/")])
        await world.reach(job, State.RUNNING)
        door.shut()
        await world.fake.exit((await world.container(job)).id, 3)
        waits = await world.told(job, "data-not-answering")
        assert (waits.state, waits.info.arguments["direction"]) == (State.FINALIZING, "push")
        door.open()
        ended = await world.end(job)
    assert (ended.state, ended.info.code) == (State.FAILED, "exit-code")
    assert await notes(world, job) == ["data-not-answering", "data-answers"]


async def test_no_pause_between_two_pulls_is_long(on_fake: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many attempts there may be: the registry answers again at any time."""
    paused: list[float] = []

    async def sleep(seconds: float) -> None:
        paused.append(seconds)

    monkeypatch.setattr(images, "asyncio", SimpleNamespace(sleep=sleep))
    on_fake.fake.add_image(IMAGE, pulled=False)
    away = ImageUnavailable("the registry cannot be reached", passing=True, reason="unreachable")
    for _ in range(15):
        on_fake.fake.fail_next("pull", error=away)
        on_fake.fake.fail_next("pull", error=NodeFull("the disk of the Docker Engine is full"))
    async with on_fake.supervised(pull_attempts=1000):
        await on_fake.reach(await on_fake.submit(RUNS_ON, image=IMAGE), State.RUNNING)
    assert (len(paused), max(paused)) == (30, 30.0)


@pytest.mark.parametrize("troubles", [1, 2, 1024, 1025, 10_000])
async def test_no_pause_of_a_driver_is_too_long_to_be_reckoned(troubles: int) -> None:
    """Its engine may be silent for days, and each look is one more trouble in a row."""
    job = in_state(State.PENDING).job
    assert job is not None
    ledger: Any = None
    yard: Any = SimpleNamespace(watch=Watch(ledger, 1.0, lambda _: None), settings=Settings())
    await Waits(yard, RunId(job.id, job.run)).pause(job, troubles)  # the job has moved on: it returns


async def test_an_engine_that_does_not_answer(on_fake: World) -> None:
    for _ in range(4):
        on_fake.fake.fail_next("create")
    async with on_fake.supervised():
        job = await on_fake.submit(RUNS_ON)
        assert (await on_fake.told(job, "engine-not-answering")).state is State.PENDING
        await on_fake.reach(job, State.RUNNING)
    assert await notes(on_fake, job) == ["engine-not-answering"]


async def test_an_engine_whose_disk_is_full_is_waited_for(on_fake: World) -> None:
    """However often it says so: the run goes on by itself."""
    for _ in range(5):
        on_fake.fake.fail_next("create", error=engine_refused("create x", FULL))
    async with on_fake.supervised():
        job = await on_fake.submit(RUNS_ON)
        assert (await on_fake.told(job, DISK_FULL)).state is State.PENDING
        await on_fake.reach(job, State.RUNNING)
    assert await notes(on_fake, job) == [DISK_FULL]


async def test_an_image_that_does_not_fit_is_not_pulled_for_ever(on_fake: World) -> None:
    world = on_fake
    world.fake.add_image(IMAGE, pulled=False)
    for _ in range(world.settings.pull_attempts):
        world.fake.fail_next("pull", error=explained(image_ref.parse(IMAGE), FULL.message))
    async with world.supervised():
        ended = await world.end(await world.submit(DONE, image=IMAGE))
    assert (ended.state, ended.info.code) == (State.ERROR, DISK_FULL)


async def test_data_that_does_not_fit_is_not_pulled_for_ever(
    stored_on_fake: World, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bucket.put({"in/a": b"1"})

    async def full(*_: object, **__: object) -> None:
        raise DiskFull("volume: no space is left on the volume's disk")

    monkeypatch.setattr(move, "pull", full)
    async with stored_on_fake.supervised():
        job = await stored_on_fake.submit(RUNS_ON, volumes=[volume("/in", "RW", bucket.name, "in/")])
        ended = await stored_on_fake.end(job)
    assert (ended.state, ended.info.code) == (State.ERROR, DISK_FULL)
    assert await notes(stored_on_fake, job) == [DISK_FULL]


def test_what_an_engine_with_a_full_disk_says() -> None:
    assert isinstance(engine_refused("create x", FULL), NodeFull)
    with pytest.raises(NodeFull):
        start_refused("c", FULL)


async def test_the_past_planned_again_says_what_was_noted(on_fake: World) -> None:
    """A whole supervisor, jobs before and behind: each note is what the ledger alone makes of its moment."""
    world = on_fake
    async with world.supervised(node_cpus=4, patience_s=0.3):
        first = await world.submit(RUNS_ON, cpu=3)
        await world.reach(first, State.RUNNING)
        waiting = [await world.submit(DONE, cpu=cpu) for cpu in (4, 1, 2, 1)]
        await world.told(waiting[-1], "waiting-in-line")
        await world.kill(first)
        for job in waiting:
            await world.end(job)
    compared = 0
    for job in waiting:
        events = await past.of_job(world.ledger.pool, job, (*MOVE_TYPES, "RunNoted"))
        (span, *_) = why.spans(events, 1, await world.ledger.now())
        begin = span.since - timedelta(seconds=60)
        after = await past.position_at(world.ledger.pool, begin)
        upto = await past.position_at(world.ledger.pool, span.until)
        found = await past.load(world.ledger.pool, begin, after, upto)
        moments = walk(found.yard, found.events, found.gaps, begin, span.until, about=job)
        stretches = why.queued(found.yard, moments, job, span)
        assert sum((each.lasted for each in stretches), timedelta()) == span.until - span.since
        said = {(each.info.code, each.info.message) for each in stretches}
        noted = [event for event in events if isinstance(event.body, RunNoted)]
        for event in noted:
            assert (event.body.info.code, event.body.info.message) in said
            compared += 1
    assert compared >= 4

"""Volumes through whole jobs, with a real S3 server: what comes, what goes, and what if neither can."""

from __future__ import annotations

import asyncio
import threading
from uuid import UUID

import pytest
from msgspec.structs import replace

from service.domain import commands as cmd
from service.domain.job import Job
from service.domain.room import DISK_FULL
from service.domain.states import State
from service.errors import DiskFull, WrongState
from service.supervisor.data.volume import beneath, manifest
from service.supervisor.sync import move
from service.supervisor.sync.move import MAX_DEPTH
from tests.supervisor.bucket import Bucket
from tests.supervisor.door import Door
from tests.supervisor.lab import RUNS_ON, Behaviour, shell
from tests.supervisor.world import PROJECT, World, volume
from tests.support.engine.scripted import Script
from tests.support.waiting import DEADLINE_S, until


async def test_volumes_of_every_kind_through_a_whole_job(stored_on_docker: World, bucket: Bucket) -> None:
    world = stored_on_docker
    before = {"in/a": b"4", "rw/keep": b"1", "rw/gone": b"2", "rwd/keep": b"1", "rwd/gone": b"2"}
    await bucket.put(before)
    does = shell(
        "touch /in/new 2>/dev/null && echo the read-only volume was written;"
        " for v in rw rwd; do rm /$v/gone; cat /in/a > /$v/new; done; echo x > /own/y; id -u"
    )
    async with world.supervised():
        job = await world.submit(
            Behaviour(does, Script()),
            volumes=[
                volume("/in", "RO", bucket.name, "in/"),
                volume("/rw", "RW", bucket.name, "rw/"),
                volume("/rwd", "RWD", bucket.name, "rwd/"),
                volume("/own", "RW"),
            ],
        )
        ended = await world.end(job)
        assert await world.log(job) == "42420\n"
        await until(lambda: not world.volume(job).parent.exists(), what="the volumes are removed")
    assert (ended.state, ended.exit_code) == (State.DONE, 0)
    assert await bucket.holds() == {
        "in/a": b"4",
        "rw/keep": b"1",
        "rw/gone": b"2",
        "rw/new": b"4",
        "rwd/keep": b"1",
        "rwd/new": b"4",
    }
    syncs = [(sync.direction, sync.state, len(sync.volumes)) for sync in ended.data_syncs]
    assert syncs == [("pull", "DONE", 3), ("push", "DONE", 2)]


@pytest.mark.parametrize("cache", [False, True])
async def test_a_pull_beyond_the_jobs_storage_names_the_limit(
    stored_on_fake: World, bucket: Bucket, cache: bool
) -> None:
    world = stored_on_fake
    catalogue = world.settings.catalogue
    flavors = tuple(replace(each, ephemeral_storage=1000) for each in catalogue.flavors)
    world.settings = replace(world.settings, catalogue=replace(catalogue, flavors=flavors))
    await bucket.put({"in/a": b"x" * 600, "in/b": b"x" * 600})
    async with world.supervised():
        asked = replace(volume("/in", "RO", bucket.name, "in/"), cache=cache)
        ended = await world.end(await world.submit(RUNS_ON, volumes=[asked]))
    assert (ended.state, ended.info.code) == (State.FAILED, "data-pull-refused")
    limit = ended.spec.resources.ephemeral_storage
    said = f"more than {limit} bytes under the prefix, which is the job's storage limit (ephemeralStorage)"
    assert said in ended.info.message


async def test_what_a_hostile_job_leaves_is_skipped_and_noted(
    stored_on_docker: World, bucket: Bucket
) -> None:
    world = stored_on_docker
    does = shell("ln -s /etc/passwd /out/passwd; ln -s /etc /out/etc; mkfifo /out/pipe; echo 1 > /out/model")
    async with world.supervised():
        volumes = [volume("/out", "RW", bucket.name)]
        job = await world.submit(Behaviour(does, Script()), volumes=volumes)
        ended = await world.end(job)
    assert ended.state is State.DONE
    assert await bucket.holds() == {"model": b"1\n"}
    (pushed,) = ended.data_syncs[-1].volumes
    assert (pushed.completed, pushed.skipped) == (1, 3)
    assert sorted(note.partition(":")[0].strip("'") for note in pushed.notes) == ["etc", "passwd", "pipe"]
    assert ended.info.code == "done"
    assert ended.info.message.startswith("The job ended normally. Not everything was pushed: ")
    assert all(name in ended.info.message for name in ("etc", "passwd", "pipe"))
    assert ended.info.arguments == {"exitCode": 0, "notPushed": 3}


@pytest.mark.parametrize("links", [0, 30])
async def test_all_that_is_not_pushed_is_counted_and_nothing_else(
    stored_on_fake: World, bucket: Bucket, links: int
) -> None:
    """Also beyond the notes that are kept; and what is not deleted in the store is noted, but arrived."""
    world = stored_on_fake
    await bucket.put({"gone": b"1"})
    async with world.supervised():
        job = await world.submit(RUNS_ON, volumes=[volume("/v", "RWD", bucket.name)])
        await world.reach(job, State.RUNNING)
        (world.volume(job) / "gone").unlink()
        for n in range(links):
            (world.volume(job) / f"l{n:02}").symlink_to("x")
        await bucket.put({"gone": b"another's"})
        await world.fake.exit(await world.name(job), 0)
        ended = await world.end(job)
    (pushed,) = ended.data_syncs[-1].volumes
    assert (pushed.skipped, pushed.left_out, len(pushed.notes)) == (links, links, 20 if links else 1)
    if links:
        said = "; ".join(pushed.notes[:3])
        assert ended.info.message.endswith(f" Not everything was pushed: {said} and 27 more.")
        assert ended.info.arguments["notPushed"] == links
    else:
        assert pushed.notes == ("gone: replaced in the store meanwhile, not deleted",)
        assert ended.info.message == "The job ended normally."


async def _ran(world: World, job: UUID, code: int = 0) -> None:
    """Let the fake's container write a file and end."""
    await world.reach(job, State.RUNNING)
    (world.volume(job) / "model").write_bytes(b"weights")
    await world.fake.exit(await world.name(job), code)


async def test_a_job_that_failed_is_pushed_too(stored_on_fake: World, bucket: Bucket) -> None:
    async with stored_on_fake.supervised():
        job = await stored_on_fake.submit(RUNS_ON, volumes=[volume("/out", "RW", bucket.name)])
        await _ran(stored_on_fake, job, code=3)
        ended = await stored_on_fake.end(job)
    assert (ended.state, ended.info.code) == (State.FAILED, "exit-code")
    assert await bucket.holds() == {"model": b"weights"}


async def test_a_push_that_fails_keeps_the_volume_until_it_is_pushed_again(
    stored_on_fake: World, bucket: Bucket, door: Door
) -> None:
    world = stored_on_fake

    async def again(sync_id: str) -> Job:
        await world.order(cmd.SyncData(project=PROJECT, job=job, sync_id=sync_id, direction="push"))

        def is_over(known: Job) -> bool:
            return any(sync.id == sync_id and sync.state != "RUNNING" for sync in known.data_syncs)

        return await world.when(job, lambda known, _: is_over(known), f"sync {sync_id} over")

    async with world.supervised():
        job = await world.submit(RUNS_ON, volumes=[volume("/out", "RW", bucket.name)])
        await world.reach(job, State.RUNNING)
        door.shut()
        await _ran(world, job)
        ended = await world.end(job)
        assert (ended.state, ended.exit_code) == (State.FAILED, 0)
        assert (ended.info.code, ended.info.arguments["mountPath"]) == ("data-push-unavailable", "/out")
        assert ended.volumes_kept
        assert ended.data_syncs[-1].state == "FAILED"
        assert (world.volume(job) / "model").read_bytes() == b"weights"
        assert (await world.bill(job)).minutes == 1

        failed = await again("second")
        assert failed.volumes_kept
        assert failed.push_ordered is None
        assert failed.data_syncs[-1].message != ""

        door.open()
        pushed = await again("third")
        assert not pushed.volumes_kept
        assert (pushed.data_syncs[-1].manual, pushed.data_syncs[-1].state) == (True, "DONE")
        assert await bucket.holds() == {"model": b"weights"}
        await until(lambda: not world.volume(job).parent.exists(), what="the volume is removed")


async def test_a_volume_that_cannot_be_pushed_holds_up_no_other(
    stored_on_fake: World, bucket: Bucket, door: Door
) -> None:
    world = stored_on_fake
    async with world.supervised():
        volumes = [volume(f"/{name}", "RW", bucket.name, f"{name}/") for name in "ab"]
        job = await world.submit(RUNS_ON, volumes=volumes)
        await world.reach(job, State.RUNNING)
        (world.volume(job, 0) / "/".join("d" * (MAX_DEPTH + 1))).mkdir(parents=True)
        (world.volume(job, 1) / "model").write_bytes(b"weights")
        door.hold()
        await world.fake.exit(await world.name(job), 0)

        def one_failed(known: Job) -> bool:
            states = [[each.state for each in sync.volumes] for sync in known.data_syncs]
            return states[-1:] == [["FAILED", "RUNNING"]]

        await world.when(job, lambda known, _: one_failed(known), "one of the two refused")
        door.open()
        ended = await world.end(job)
    assert (ended.state, ended.info.code, ended.volumes_kept) == (State.FAILED, "data-push-refused", True)
    assert [each.state for each in ended.data_syncs[-1].volumes] == ["FAILED", "DONE"]
    assert await bucket.holds() == {"b/model": b"weights"}


async def test_a_file_that_cannot_be_pushed_keeps_the_volume(stored_on_fake: World, bucket: Bucket) -> None:
    """What is left out for what it is (a link) does not: nobody could push it."""
    world = stored_on_fake
    await bucket.put({"model/old": b"1"})
    async with world.supervised():
        job = await world.submit(RUNS_ON, volumes=[volume("/out", "RW", bucket.name)])
        await world.reach(job, State.RUNNING)
        (world.volume(job) / "link").symlink_to("x")
        (world.volume(job) / "model/old").unlink()
        (world.volume(job) / "model").rmdir()
        (world.volume(job) / "model").write_bytes(b"weights")
        (world.volume(job) / "other").write_bytes(b"1")
        await world.fake.exit(await world.name(job), 0)
        ended = await world.end(job)
        found = (ended.state, ended.info.code, ended.volumes_kept)
        assert found == (State.FAILED, "data-push-incomplete", True)
        why = "model: the store holds the name as both file and folder, not pushed"
        assert ended.info.message == f"Not pushed: {why}."
        assert await bucket.holds() == {"model/old": b"1", "other": b"1"}
        assert ended.data_syncs[-1].volumes[0].state == ended.data_syncs[-1].state == "FAILED"
        await bucket.store.delete_object(bucket.name, "model/old")
        await world.order(cmd.SyncData(project=PROJECT, job=job, sync_id="second", direction="push"))
        await world.when(job, lambda known, _: known.ended and not known.volumes_kept, "pushed")
    assert await bucket.holds() == {"model": b"weights", "other": b"1"}


async def test_a_full_disk_of_the_node_is_no_fault_of_the_job(
    stored_on_fake: World, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = stored_on_fake

    async def full(*_: object, **__: object) -> None:
        await asyncio.sleep(0)
        raise DiskFull("no space is left on the volume's disk")

    async with world.supervised():
        job = await world.submit(RUNS_ON, volumes=[volume("/out", "RW", bucket.name)])
        with monkeypatch.context() as patched:
            patched.setattr(move, "push", full)
            await _ran(world, job)
            ended = await world.end(job)
            assert (ended.state, ended.info.code, ended.volumes_kept) == (State.ERROR, DISK_FULL, True)
            bill = await world.bill(job)
            assert (bill.credited, bill.net == 0) == (True, True)
            await world.order(cmd.SyncData(project=PROJECT, job=job, sync_id="2", direction="push"))

            def is_over(known: Job) -> bool:
                return [(sync.id, sync.state) for sync in known.data_syncs[-1:]] == [("2", "FAILED")]

            failed = await world.when(job, lambda known, _: is_over(known), "failed again")
            assert failed.volumes_kept
        await world.order(cmd.SyncData(project=PROJECT, job=job, sync_id="3", direction="push"))
        await world.when(job, lambda known, _: known.ended and not known.volumes_kept, "pushed")
    assert await bucket.holds() == {"model": b"weights"}


async def test_a_job_that_is_deleted_by_force_while_its_kept_volumes_are_pushed(
    stored_on_fake: World, bucket: Bucket, door: Door
) -> None:
    """The order ends with the job. What is on its way may arrive; nothing of the job is left here, and its
    driver is free."""
    world = stored_on_fake
    async with world.supervised():
        job = await world.submit(RUNS_ON, volumes=[volume("/out", "RW", bucket.name)])
        await world.reach(job, State.RUNNING)
        door.shut()
        await _ran(world, job)
        assert (await world.end(job)).volumes_kept
        door.open()
        door.hold()
        door.knocked.clear()
        await world.order(cmd.SyncData(project=PROJECT, job=job, sync_id="second", direction="push"))
        await door.knocked.wait()
        with pytest.raises(WrongState, match="being pushed now"):
            await world.delete(job)
        await world.delete(job, force=True)
        gone = await world.when(job, lambda known, _: known.deleted, "deleted")
        assert (gone.push_ordered, gone.data_syncs[-1].state) == (None, "FAILED")
        door.open()
        await until(lambda: not world.volume(job).parent.exists(), what="the volume is removed")
        after = await world.submit(RUNS_ON)
        await world.reach(after, State.RUNNING)
    said = [event.type for event in await world.events(job)]
    assert said[-2:] == ["DataSyncMoved", "JobDeleted"]
    assert await bucket.holds() in ({}, {"model": b"weights"})


async def test_a_mark_from_a_push_that_failed_before_one_that_worked_keeps_nothing(
    stored_on_fake: World, bucket: Bucket
) -> None:
    """Whoever set it was killed before the ledger heard of it; the next one pushed, and was killed too."""
    world = stored_on_fake
    async with world.supervised():
        job = await world.submit(RUNS_ON, volumes=[volume("/out", "RW", bucket.name)])
        await _ran(world, job)
        assert not (await world.end(job)).volumes_kept
        await until(lambda: not world.volume(job).parent.exists(), what="the volume is removed")
    left = world.volume(job)
    left.mkdir(parents=True)
    (left.parent / "kept").touch()
    async with world.supervised():
        await until(lambda: not left.parent.exists(), what="the volume is removed again")


async def test_what_a_run_wrote_is_safe_on_the_disk_before_its_exit_is_recorded(
    stored_on_fake: World, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a power cut between the two would push shortened files, and call the job DONE."""
    settle, reached, go = beneath.settle, threading.Event(), threading.Event()
    world = stored_on_fake

    def held(fd: int) -> None:
        reached.set()
        assert go.wait(DEADLINE_S)
        settle(fd)

    async with world.supervised():
        job = await world.submit(RUNS_ON, volumes=[volume("/out", "RW", bucket.name)])
        await world.reach(job, State.RUNNING)
        monkeypatch.setattr(beneath, "settle", held)
        (world.volume(job) / "model").write_bytes(b"weights")
        await world.fake.exit(await world.name(job), 0)
        await until(reached.is_set, what="the disk is waited for")
        assert (await world.ledger.job(job)).state is State.RUNNING
        go.set()
        await world.end(job)
    assert await bucket.holds() == {"model": b"weights"}


async def test_a_run_that_was_pulled_before_accounts_were_told_apart(
    stored_on_fake: World, bucket: Bucket, door: Door
) -> None:
    """The record of its volume names the endpoint alone: it holds for the same store."""
    world = stored_on_fake
    await bucket.put({"kept": b"1", "gone": b"2"})
    async with world.supervised():
        job = await world.submit(RUNS_ON, volumes=[volume("/v", "RWD", bucket.name)])
        await world.reach(job, State.RUNNING)
        book = manifest.load(world.volume(job))
        for place in book.places:
            place.endpoint = door.access.endpoint
        manifest.save(world.volume(job), book)
        (world.volume(job) / "gone").unlink()
        await world.fake.exit(await world.name(job), 0)
        await world.end(job)
    assert await bucket.holds() == {"kept": b"1"}


async def test_a_push_ordered_while_nobody_was_there(
    stored_on_fake: World, bucket: Bucket, door: Door
) -> None:
    """Kept volumes outlive the supervisor, and the order waits for the next one."""
    world = stored_on_fake
    async with world.supervised():
        job = await world.submit(RUNS_ON, volumes=[volume("/out", "RW", bucket.name)])
        await world.reach(job, State.RUNNING)
        door.shut()
        await _ran(world, job)
        await world.end(job)
    door.open()
    await world.order(cmd.SyncData(project=PROJECT, job=job, sync_id="second", direction="push"))
    async with world.supervised():
        await world.when(job, lambda known, _: known.ended and not known.volumes_kept, "pushed")
    assert await bucket.holds() == {"model": b"weights"}


async def test_a_pull_that_fails(stored_on_fake: World, bucket: Bucket, door: Door) -> None:
    door.shut()
    async with stored_on_fake.supervised():
        volumes = [volume("/in", "RO", bucket.name), volume("/out", "RW", bucket.name)]
        job = await stored_on_fake.submit(RUNS_ON, volumes=volumes)
        ended = await stored_on_fake.end(job)
        assert await stored_on_fake.log(job) == ""
        await until(lambda: not stored_on_fake.volume(job).parent.exists(), what="the volumes are removed")
    assert (ended.state, ended.info.code) == (State.FAILED, "data-pull-unavailable")
    assert [visit.state.value for visit in ended.history][-3:] == ["INITIALIZING", "FINALIZING", "FAILED"]
    assert (await stored_on_fake.bill(job)).minutes == 0
    assert stored_on_fake.created(job) == []


@pytest.mark.parametrize("unusable", [{"region": "a-"}, {"endpoint": "http://my_minio:9000"}])
async def test_a_pull_from_a_store_that_cannot_be_opened(
    stored_on_fake: World, bucket: Bucket, door: Door, unusable: dict[str, str]
) -> None:
    """Such stores are not taken any more, but an older ledger may have them."""
    world = stored_on_fake
    key = await world.ledger.keys.of(PROJECT)
    store = cmd.SetDataStore(
        project=PROJECT,
        alias="local",
        endpoint=door.access.endpoint,
        region=door.access.region,
        access_key=key.seal(door.access.access_key),
        secret_key=key.seal(door.access.secret_key),
        replace=True,
    )
    await world.order(replace(store, **unusable))
    async with world.supervised():
        ended = await world.end(await world.submit(RUNS_ON, volumes=[volume("/in", "RO", bucket.name)]))
    assert (ended.state, ended.info.code) == (State.FAILED, "data-pull-refused")
    assert f"{bucket.name}@local: " in ended.info.message
    assert next(iter(unusable.values())) in ended.info.message


async def test_an_interrupt_while_data_is_pulled(stored_on_fake: World, bucket: Bucket, door: Door) -> None:
    await bucket.put({"big": b"1"})
    door.hold()
    async with stored_on_fake.supervised():
        job = await stored_on_fake.submit(RUNS_ON, volumes=[volume("/in", "RO", bucket.name)])
        await door.knocked.wait()
        await stored_on_fake.kill(job)
        ended = await stored_on_fake.end(job)
        assert await stored_on_fake.log(job) == ""
        await until(lambda: not stored_on_fake.volume(job).parent.exists(), what="the volume is removed")
    assert (ended.state, ended.info.code) == (State.INTERRUPTED, "interrupted")
    assert "INTERRUPTING" in [visit.state.value for visit in ended.history]
    assert (await stored_on_fake.bill(job)).minutes == 0
    assert stored_on_fake.created(job) == []


async def test_an_interrupt_while_the_image_is_pulled(on_fake: World) -> None:
    pull = on_fake.fake.gates.hold("pull")
    on_fake.fake.add_image("big:1", pulled=False)
    async with on_fake.supervised():
        job = await on_fake.submit(image="big:1")
        await pull.reached.wait()
        await on_fake.kill(job)
        ended = await on_fake.end(job)
        assert await on_fake.log(job) == ""
    assert ended.state is State.INTERRUPTED
    assert on_fake.created(job) == []
    assert (await on_fake.bill(job)).minutes == 0


async def test_an_interrupt_while_the_container_is_made(on_fake: World) -> None:
    """It came after the last look: the container is there, so it is stopped and put away."""
    start = on_fake.fake.gates.hold("start", "after")
    async with on_fake.supervised():
        job = await on_fake.submit(RUNS_ON)
        await start.reached.wait()
        await on_fake.kill(job)
        start.open.set()
        ended = await on_fake.end(job)
        assert await on_fake.containers(job) == []
    assert (ended.state, ended.started_at) == (State.INTERRUPTED, None)
    assert (await on_fake.bill(job)).minutes == 0

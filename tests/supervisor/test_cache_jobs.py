"""Jobs that share what they pull, through whole lives: with a real store, and wires that are counted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from service.api import views
from service.domain import commands as cmd
from service.domain.asked import DataStoreAsked, UrlAsked, VolumeAsked
from service.domain.job import Job
from service.domain.spec import Place
from service.domain.states import State
from service.supervisor.cache import Generation, marks
from service.supervisor.cache.copying import copy
from service.supervisor.cache.entry import Key, Version
from service.supervisor.cache.space import Space
from service.supervisor.engine.protocol import ContainerSpec
from service.supervisor.names import JOB
from service.supervisor.sync import move
from service.supervisor.sync.move import NO_ROOM
from service.supervisor.sync.runs import PINNED
from tests.data.sync import files
from tests.supervisor.bucket import Bucket
from tests.supervisor.door import Door
from tests.supervisor.lab import RUNS_ON, Behaviour, shell
from tests.supervisor.looking import SMALL
from tests.supervisor.test_supervisor_orders import exits, order, over, sync_of
from tests.supervisor.test_user_volumes import members, tar
from tests.supervisor.world import MIB, PROJECT, World, volume
from tests.support.engine.scripted import Script
from tests.support.https import Site, a_site
from tests.support.waiting import until

FILES = {"a": b"one", "d/b": b"two"}


def cached(bucket: Bucket, permission: str = "RO", **more: str) -> VolumeAsked:
    return volume("/in", permission, bucket.name, cache=True, **more)


async def running(world: World, *volumes: VolumeAsked, project: str = PROJECT) -> UUID:
    job = await world.submit(RUNS_ON, volumes=list(volumes), project=project)
    await world.reach(job, State.RUNNING)
    return job


def spec_of(world: World, job: UUID) -> ContainerSpec:
    return next(spec for spec in world.fake.specs if spec.labels[JOB] == str(job))


def seen_by(world: World, job: UUID, index: int = 0) -> Path:
    """What the job's container has mounted."""
    return Path(spec_of(world, job).mounts[index].source)


def pulled(job: Job) -> tuple[int, int, int]:
    """Objects moved and found unchanged, and bytes moved, by the job's first pull."""
    (found,) = job.data_syncs[0].volumes
    return found.completed, found.skipped, found.transferred_bytes


def generations(world: World) -> list[str]:
    return sorted(path.name for path in world.settings.cache_dir.glob("*/*/*/"))


async def test_jobs_share_what_one_of_them_pulled(stored_on_fake: World, bucket: Bucket, door: Door) -> None:
    world = stored_on_fake
    await bucket.put(FILES)
    async with world.supervised():
        first = await running(world, cached(bucket))
        assert door.fetched() == ["a", "d/b"]
        second = await running(world, cached(bucket))
        assert door.fetched() == []
        assert files(seen_by(world, first)) == FILES
        assert seen_by(world, second) == seen_by(world, first)
        assert spec_of(world, first).mounts[0].read_only
        assert files(world.volume(first)) == {}, "there is no copy"
        told = [pulled(await world.ledger.job(job)) for job in (first, second)]
        assert told == [(2, 0, 6), (0, 2, 0)]
        third = await running(world, volume("/in", "RO", bucket.name))
        assert (door.fetched(), seen_by(world, third)) == (["a", "d/b"], world.volume(third))


async def test_a_job_never_sees_what_it_has_change(stored_on_fake: World, bucket: Bucket, door: Door) -> None:
    """And the outdated goes as soon as its last user has ended."""
    world = stored_on_fake
    await bucket.put(FILES)
    async with world.supervised():
        first = await running(world, cached(bucket))
        door.fetched()
        await bucket.put({"a": b"ONE"})
        await bucket.store.delete_object(bucket.name, "d/b")
        second = await running(world, cached(bucket))
        assert door.fetched() == ["a"]
    ghost = world.settings.cache_dir / "ghost" / "of-nobody"
    (ghost / "1" / "files").mkdir(parents=True)
    async with world.supervised():
        await until(lambda: not ghost.exists(), what="the cache has been swept")
        assert files(seen_by(world, first)) == FILES
        assert files(seen_by(world, second)) == {"a": b"ONE"}
        await exits(world, first)
        await world.end(first)
        await until(lambda: generations(world) == ["2"], what="the outdated generation is evicted")
        assert files(seen_by(world, second)) == {"a": b"ONE"}


async def test_a_job_that_may_write_has_a_copy_and_pushes_what_it_changed(
    stored_on_docker: World, bucket: Bucket
) -> None:
    world = stored_on_docker
    await bucket.put(FILES)
    writes = shell("echo mine > /in/a; rm /in/d/b; echo x > /in/new; id -u")
    tries = shell(
        "for f in /in/a /in/d/b /in/new; do echo bad > $f; done 2>/dev/null; rm -rf /in/d 2>/dev/null;"
        " chmod 777 /in/a 2>/dev/null; ln /in/a /in/l 2>/dev/null;"
        " cat /in/a /in/d/b 2>/dev/null; stat -c %u /in/a"
    )
    async with world.supervised():
        reader = await world.submit(Behaviour(tries, Script()), volumes=[cached(bucket)])
        assert (await world.end(reader)).state is State.DONE
        assert await world.log(reader) == "onetwo0\n"
        writer = await world.submit(Behaviour(writes, Script()), volumes=[cached(bucket, "RWD")])
        ended = await world.end(writer)
        assert await world.log(writer) == "42420\n"
        assert (ended.state, pulled(ended)) == (State.DONE, (0, 2, 0))
        (pushed,) = ended.data_syncs[-1].volumes
        assert (pushed.completed, pushed.deleted) == (2, 1)
        after = await world.submit(Behaviour(tries, Script()), volumes=[cached(bucket)])
        await world.end(after)
    assert await bucket.holds() == {"a": b"mine\n", "new": b"x\n"}
    assert await world.log(after) == "mine\n0\n"


@pytest.mark.parametrize("permission", ["RW", "RWD"])
async def test_a_copy_that_nobody_touched_moves_no_bytes_either_way(
    stored_on_fake: World, bucket: Bucket, door: Door, permission: str
) -> None:
    world = stored_on_fake
    await bucket.put(FILES)
    async with world.supervised():
        await running(world, cached(bucket))
        door.fetched()
        job = await running(world, cached(bucket, permission))
        root = seen_by(world, job)
        assert (root, files(root)) == (world.volume(job), FILES)
        await exits(world, job)
        await world.end(job)
        assert {line.split()[0] for line in door.asked} <= {"GET", "HEAD"}
        assert door.fetched() == []
        assert await bucket.holds() == FILES


async def test_another_project_pulls_for_itself(stored_on_fake: World, bucket: Bucket, door: Door) -> None:
    world = stored_on_fake
    await bucket.put(FILES)
    await world.order(cmd.CreateProject(project="other", name="Other", cpu=8, gpu=0))
    key = await world.ledger.keys.of("other")
    await world.order(
        cmd.SetDataStore(
            project="other",
            alias="local",
            endpoint=door.access.endpoint,
            region=door.access.region,
            access_key=key.seal(door.access.access_key),
            secret_key=key.seal(door.access.secret_key),
        )
    )
    async with world.supervised():
        mine = await running(world, cached(bucket))
        door.fetched()
        theirs = await running(world, cached(bucket), project="other")
        assert door.fetched() == ["a", "d/b"]
        assert seen_by(world, theirs) != seen_by(world, mine)
        assert seen_by(world, theirs).is_relative_to(world.settings.cache_dir / "other")


async def test_who_has_lost_the_data_store_does_not_get_its_data(
    stored_on_fake: World, bucket: Bucket, door: Door
) -> None:
    world = stored_on_fake
    await bucket.put(FILES)
    async with world.supervised():
        first = await running(world, cached(bucket))
        door.shut()
        job = await world.submit(RUNS_ON, volumes=[cached(bucket)])
        assert (await world.end(job)).info.code == "data-pull-unavailable"
        door.open()
        again = await running(world, cached(bucket))
        for each in (first, again):
            await world.kill(each)
            await world.end(each)
        await world.order(cmd.RemoveDataStore(project=PROJECT, alias="local"))
        await world.start(again)
        ended = await world.end(again, run=2)
        assert (ended.state, ended.info.code) == (State.FAILED, "data-pull-refused")
        assert "no data store local any more" in ended.info.message


async def test_a_restart_mounts_the_generation_that_the_run_had(
    stored_on_fake: World, bucket: Bucket, door: Door
) -> None:
    """Between its pull and its container the supervisor ends, and the store changes for another job."""
    world = stored_on_fake
    await bucket.put(FILES)
    gate = world.fake.gates.hold("create")
    async with world.supervised():
        job = await world.submit(RUNS_ON, volumes=[cached(bucket)])
        await gate.reached.wait()
    await bucket.put({"a": b"ONE"})
    gate.reached.clear()
    async with world.supervised():
        await gate.reached.wait()
        other = await world.submit(RUNS_ON, volumes=[cached(bucket)])
        await world.reach(other, State.PENDING)
        gate.open.set()
        for each in (job, other):
            await world.reach(each, State.RUNNING)
        assert files(seen_by(world, job)) == FILES
        assert files(seen_by(world, other)) == FILES | {"a": b"ONE"}
    ghost = world.settings.cache_dir / "ghost" / "of-nobody"
    (ghost / "1" / "files").mkdir(parents=True)
    async with world.supervised(cache_max_age_s=0.0):
        await until(lambda: not ghost.exists(), what="the cache has been swept")
        assert files(seen_by(world, job)) == FILES, "adopted, and not evicted"
        for each in (job, other):
            await exits(world, each)
            await world.end(each)
        await until(lambda: generations(world) == [], what="all is evicted once nobody has it")


@pytest.mark.parametrize(("permission", "thing"), [("RO", "mark"), ("RW", "copy")])
async def test_nothing_is_evicted_before_the_run_has_it(
    stored_on_fake: World, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, permission: str, thing: str
) -> None:
    """The mark is written, and the copy made, while the pull still counts as inside the cache."""
    world = stored_on_fake
    await bucket.put(FILES)
    order: list[str] = []
    inside, write = Space.inside, marks.write

    @asynccontextmanager
    async def noted(self: Space, key: Key) -> AsyncIterator[Path]:
        async with inside(self, key) as entry:
            yield entry
            order.append("left")

    def marked(root: Path, version: Version) -> None:
        write(root, version)
        order.append("mark")

    async def copied(generation: Generation, root: Path) -> None:
        await copy(generation, root)
        order.append("copy")

    monkeypatch.setattr(Space, "inside", noted)
    monkeypatch.setattr(marks, "write", marked)
    monkeypatch.setattr(move, "copy", copied)
    async with world.supervised():
        await running(world, cached(bucket, permission))
    assert order == [thing, "left"]


async def test_a_pull_that_was_cut_off_is_gone_on_with(
    stored_on_fake: World, bucket: Bucket, door: Door
) -> None:
    world = stored_on_fake
    await bucket.put(FILES)
    door.hold()
    async with world.supervised():
        job = await world.submit(RUNS_ON, volumes=[cached(bucket)])
        await door.knocked.wait()
    door.open()
    async with world.supervised():
        await world.reach(job, State.RUNNING)
        assert files(seen_by(world, job)) == FILES
        assert generations(world) == ["1"]


async def test_what_is_shared_is_not_pulled_on_order_and_says_why(
    stored_on_fake: World, bucket: Bucket, door: Door
) -> None:
    world = stored_on_fake
    await bucket.put(FILES)
    async with world.supervised():
        own = volume("/own", "RW", bucket.name, cache=True)
        job = await running(world, cached(bucket), own)
        door.fetched()
        await bucket.put({"a": b"ONE"})
        await order(world, job, "first", "pull", 0)
        refused = await over(world, job, "first")
        assert (refused.state, refused.message) == ("FAILED", PINNED)
        await order(world, job, "second", "pull")
        done = await over(world, job, "second")
        assert done.state == "DONE"
        shared, private = sorted(done.volumes, key=lambda each: each.volume)
        assert (shared.state, shared.notes) == ("FAILED", (PINNED,))
        assert (private.state, private.completed, private.skipped) == ("DONE", 1, 1)
        assert door.fetched() == ["a"]
        assert files(seen_by(world, job)) == FILES
        assert files(world.volume(job, 1)) == FILES | {"a": b"ONE"}
        told = await world.ledger.job(job)
        assert sync_of(told, "first") == refused
        shown = views.job(
            told, now=done.updated_at, public_url="", job_domain="", secrets=None
        ).status.volumes
        pulls = [told.data_syncs[0].created_at, done.created_at]
        assert [each.last_pulled_created_at for each in shown] == pulls


async def test_what_the_cache_has_no_room_for_is_pulled_for_the_job_alone(
    stored_on_fake: World, bucket: Bucket, door: Door
) -> None:
    world = stored_on_fake
    await bucket.put(FILES)
    async with world.supervised(cache_max_bytes=2):
        job = await running(world, cached(bucket))
        root = seen_by(world, job)
        assert (root, files(root)) == (world.volume(job), FILES)
        (found,) = (await world.ledger.job(job)).data_syncs[0].volumes
        assert (found.completed, found.notes) == (2, (NO_ROOM,))
        await bucket.put({"a": b"ONE"})
        await order(world, job, "first", "pull")
        assert (await over(world, job, "first")).state == "DONE"
        assert files(root)["a"] == b"ONE"


@pytest.mark.parametrize(("permission", "fits"), [("RO", True), ("RW", False)])
async def test_what_is_shared_takes_none_of_a_jobs_storage_and_a_copy_does(
    stored_on_fake: World, bucket: Bucket, permission: str, *, fits: bool
) -> None:
    world = stored_on_fake
    world.settings = replace(world.settings, catalogue=SMALL)
    await bucket.put({"a/x": b"x" * 5 * MIB, "b/x": b"x" * 5 * MIB})
    volumes = [volume(f"/{p}", permission, bucket.name, f"{p}/", cache=True) for p in ("a", "b")]
    async with world.supervised():
        job = await world.submit(RUNS_ON, volumes=volumes)
        reached = await world.reach(job, State.RUNNING, State.FAILED)
    assert (reached.state is State.RUNNING) == fits
    assert reached.info.code == ("running" if fits else "ephemeral-storage")


async def test_a_volume_of_the_project_goes_by_the_cache(
    stored_on_fake: World, bucket: Bucket, door: Door
) -> None:
    world = stored_on_fake
    await bucket.put({"p/a": b"1"})
    volume_id = str(uuid4())
    source = Place(alias="local", container=bucket.name, prefix="p/")
    await world.order(cmd.CreateVolume(project=PROJECT, volume_id=volume_id, cache=True, source=source))
    named = VolumeAsked(mount_path="/in", permission="RO", user_volume_id=volume_id)
    async with world.supervised():
        first = await running(world, named)
        assert door.fetched() == ["p/a"]
        second = await running(world, named)
        direct = await running(world, cached(bucket, prefix="p/"))
        assert door.fetched() == []
    assert files(seen_by(world, first)) == {"a": b"1"}
    assert seen_by(world, first) == seen_by(world, second) == seen_by(world, direct)


async def test_a_git_repository_has_no_cache_and_an_archive_has(
    stored_on_fake: World, tmp_path: Path, bucket: Bucket
) -> None:
    world = stored_on_fake
    (tmp_path / "site").mkdir()
    with a_site(tmp_path / "site") as site:
        site.repository("r.git", {"code": b"git"})
        await _with_sources(world, site)


async def _with_sources(world: World, site: Site) -> None:
    world.settings = replace(world.settings, fetch_allow=("127.0.0.0/8",), fetch_ca=site.ca)
    site.serve("/a.tgz", tar({"x": b"1"}), ETag='"1"')
    git = UrlAsked(url=site.url("/git/r.git", "127.0.0.1"))
    archive = UrlAsked(url=site.url("/a.tgz", "127.0.0.1"))
    async with world.supervised():
        job = await running(
            world,
            VolumeAsked(mount_path="/git", permission="RO", public_git=git, cache=True),
            VolumeAsked(mount_path="/data", permission="RO", public_swift=archive, cache=True),
        )
        assert files(seen_by(world, job, 0)) == {"code": b"git"}
        assert seen_by(world, job, 0) == world.volume(job)
        assert files(seen_by(world, job, 1)) == {"x": b"1"}
        assert seen_by(world, job, 1).is_relative_to(world.settings.cache_dir / PROJECT)


async def test_an_archive_in_a_store_through_the_cache(
    stored_on_fake: World, bucket: Bucket, door: Door
) -> None:
    world = stored_on_fake
    await bucket.put({"a.tgz": tar(FILES)})
    place = DataStoreAsked(alias="local", container=bucket.name, archive="a.tgz")
    asked = VolumeAsked(mount_path="/in", permission="RWD", data_store=place, cache=True)
    async with world.supervised():
        first = await running(world, asked)
        assert door.fetched() == ["a.tgz"]
        second = await running(world, asked)
        assert door.fetched() == []
        (world.volume(first) / "a").write_bytes(b"mine")
        for job in (second, first):
            await exits(world, job)
            assert (await world.end(job)).state is State.DONE
    assert members((await bucket.holds())["a.tgz"]) == FILES | {"a": b"mine"}


async def test_a_job_whose_mark_is_damaged_does_not_begin_with_an_empty_folder(
    stored_on_fake: World, bucket: Bucket
) -> None:
    world = stored_on_fake
    await bucket.put(FILES)
    gate = world.fake.gates.hold("create")
    async with world.supervised():
        job = await world.submit(RUNS_ON, volumes=[cached(bucket)])
        await gate.reached.wait()
    gate.open.set()
    world.volume(job).with_name("0.cached").write_bytes(b"{")
    async with world.supervised():
        ended = await world.end(job)
    assert (ended.state, ended.info.code) == (State.ERROR, "node-storage")
    assert world.created(job) == []
    assert await world.name(job) not in world.fake.started


async def test_an_ordered_pull_whose_mark_is_damaged_ends(stored_on_fake: World, bucket: Bucket) -> None:
    """With a reason, and once: it does not begin anew for ever. Its process goes on."""

    def told(lines: Sequence[Mapping[str, object]]) -> int:
        return [line["event"] for line in lines].count("ordered sync failed")

    world = stored_on_fake
    await bucket.put(FILES)
    async with world.supervised():
        job = await running(world, cached(bucket))
        mark = world.volume(job).with_name("0.cached")
        mark.rename(mark.with_name("whole"))
        mark.mkdir()
        with capture_logs() as lines:
            await order(world, job, "first", "pull")
            failed = await over(world, job, "first")
            await order(world, job, "second", "pull")
            await over(world, job, "second")
            await until(lambda: told(lines) >= 2)
        assert failed.state == "FAILED"
        assert failed.message == f"The node's storage failed: 0.cached of run {job}/1: Is a directory"
        assert told(lines) == 2
        still = await world.ledger.job(job)
        assert (still.state, still.sync_orders) == (State.RUNNING, ())
        mark.rmdir()
        mark.with_name("whole").rename(mark)
        await order(world, job, "third", "pull")
        assert (await over(world, job, "third")).volumes[0].notes == (PINNED,)
        await exits(world, job)
        assert (await world.end(job)).state is State.DONE

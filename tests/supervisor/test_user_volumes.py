"""Whole jobs with volumes of their project, and with archives in a data store."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from uuid import uuid4

import pytest
from msgspec.structs import replace

from service.domain import commands as cmd
from service.domain.asked import DataStoreAsked, VolumeAsked
from service.domain.states import State
from service.errors import WrongState
from tests.supervisor.bucket import Bucket
from tests.supervisor.lab import RUNS_ON, Behaviour, shell
from tests.supervisor.world import PROJECT, World
from tests.support.engine.scripted import Script
from tests.support.waiting import until


def tar(contents: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, data in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return made.getvalue()


def members(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {info.name: archive.extractfile(info).read() for info in archive}  # type: ignore[union-attr]


def archived(bucket: Bucket, permission: str, key: str) -> VolumeAsked:
    place = DataStoreAsked(alias="local", container=bucket.name, archive=key)
    return VolumeAsked(mount_path=f"/{permission.lower()}", permission=permission, data_store=place)


async def test_archives_through_a_whole_job(stored_on_docker: World, bucket: Bucket) -> None:
    world = stored_on_docker
    packed = tar({"keep": b"1", "d/gone": b"2"})
    await bucket.put({"ro": packed, "rw.tgz": packed, "rwd.tar.gz": packed})
    does = shell(
        "for v in rw rwd; do rm /$v/d/gone; cat /ro/d/gone > /$v/new; done;"
        " touch /ro/x 2>/dev/null && echo bad; true"
    )
    async with world.supervised():
        job = await world.submit(
            Behaviour(does, Script()),
            volumes=[
                archived(bucket, "RO", "ro"),
                archived(bucket, "RW", "rw.tgz"),
                archived(bucket, "RWD", "rwd.tar.gz"),
            ],
        )
        ended = await world.end(job)
        assert await world.log(job) == ""
        await until(lambda: not world.volume(job).parent.exists(), what="the volumes are removed")
    found = await bucket.holds()
    assert found["ro"] == packed
    assert members(found["rw.tgz"]) == {"keep": b"1", "d/gone": b"2", "new": b"2"}
    assert members(found["rwd.tar.gz"]) == {"keep": b"1", "new": b"2"}
    assert [(sync.direction, sync.state) for sync in ended.data_syncs] == [("pull", "DONE"), ("push", "DONE")]


async def test_an_archive_that_is_none_fails_the_job_and_says_why(
    stored_on_fake: World, bucket: Bucket
) -> None:
    await bucket.put({"a.tar": b"text" * 1000})
    async with stored_on_fake.supervised():
        job = await stored_on_fake.submit(RUNS_ON, volumes=[archived(bucket, "RO", "a.tar")])
        ended = await stored_on_fake.end(job)
    assert (ended.state, ended.info.code) == (State.FAILED, "data-pull-refused")
    assert "it is no archive" in ended.info.message


@pytest.mark.parametrize("cache", [False, True])
async def test_an_archive_that_is_not_there_fails_who_only_reads_it(
    stored_on_fake: World, bucket: Bucket, cache: bool
) -> None:
    """Who is to make it begins empty, and is told, before and after the cache knows that there is none."""
    elsewhere = DataStoreAsked(alias="local", container=bucket.name, archive="other.tar")
    begins = [replace(archived(bucket, permission, "a.tar"), cache=cache) for permission in ("RW", "RWD")]
    reads = replace(archived(bucket, "RO", "a.tar"), cache=cache)
    away = replace(begins[0], target_data_store=elsewhere)
    async with stored_on_fake.supervised():
        job = await stored_on_fake.submit(RUNS_ON, volumes=begins)
        running = await stored_on_fake.reach(job, State.RUNNING)
        for index in (0, 1):
            assert "a.tar: not there yet" in running.data_syncs[0].volumes[index].notes[0]
        for volume in (reads, away):
            ended = await stored_on_fake.end(await stored_on_fake.submit(RUNS_ON, volumes=[volume]))
            assert (ended.state, ended.info.code) == (State.FAILED, "data-pull-refused")
            assert "object a.tar is not there" in ended.info.message


async def make(world: World) -> str:
    volume_id = str(uuid4())
    await world.order(cmd.CreateVolume(project=PROJECT, volume_id=volume_id))
    return volume_id


def shared(volume_id: str, permission: str = "RW", path: str = "/data") -> VolumeAsked:
    return VolumeAsked(mount_path=path, permission=permission, user_volume_id=volume_id)


def place(world: World, volume_id: str) -> Path:
    return world.settings.user_volumes_dir / PROJECT / volume_id


async def test_jobs_share_a_standalone_volume(stored_on_docker: World) -> None:
    world = stored_on_docker
    volume_id = await make(world)
    async with world.supervised():
        writes = Behaviour(shell("echo shared > /data/a; ln -s /etc/passwd /data/link"), Script())
        first = await world.submit(writes, volumes=[shared(volume_id)])
        assert (await world.end(first)).state is State.DONE
        reads = Behaviour(shell("cat /in/a; touch /in/b 2>/dev/null && echo bad; true"), Script())
        second = await world.submit(reads, volumes=[shared(volume_id, "RO", "/in")])
        ended = await world.end(second)
        assert await world.log(second) == "shared\n"
    assert (ended.state, ended.data_syncs) == (State.DONE, ())
    assert (place(world, volume_id) / "a").read_bytes() == b"shared\n"


async def test_a_deleted_volume_is_removed_when_no_live_job_has_it(stored_on_fake: World) -> None:
    world = stored_on_fake
    kept, gone = await make(world), await make(world)
    async with world.supervised():
        job = await world.submit(RUNS_ON, volumes=[shared(gone), shared(kept, path="/kept")])
        await world.reach(job, State.RUNNING)
        (place(world, gone) / "a").write_bytes(b"1")
        # As when it was submitted while the volume was being deleted.
        await world.order(cmd.DeleteVolume(project=PROJECT, volume_id=gone))
    async with world.supervised():  # a new supervisor sweeps first
        other = await world.submit(RUNS_ON)
        await world.reach(other, State.RUNNING)
        assert (place(world, gone) / "a").exists()
        for each in (job, other):
            await world.fake.exit(await world.name(each), 0)
            await world.end(each)
        with pytest.raises(WrongState, match="was deleted"):
            await world.start(job)
    async with world.supervised():
        await until(lambda: not place(world, gone).exists(), what="the deleted volume is removed")
    assert place(world, kept).exists()


async def test_only_what_projects_deleted_is_removed(stored_on_fake: World) -> None:
    """A directory of a project that the ledger does not know belongs to somebody else."""
    world = stored_on_fake
    foreign = world.settings.user_volumes_dir / "nobody" / str(uuid4())
    foreign.mkdir(parents=True)
    left = place(world, str(uuid4()))
    left.mkdir(parents=True)
    async with world.supervised():
        await until(lambda: not left.exists(), what="a volume of nobody is removed")
    assert foreign.exists()

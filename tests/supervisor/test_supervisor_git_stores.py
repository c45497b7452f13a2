"""Whole jobs whose volumes come from data stores of type git, over https and over ssh."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from service.domain import commands as cmd
from service.domain.asked import DataStoreAsked, VolumeAsked
from service.domain.directory import DataStore
from service.domain.gitstores import GitKeys
from service.domain.job import Job
from service.domain.states import State
from tests.supervisor.bucket import Bucket
from tests.supervisor.lab import RUNS_ON, Behaviour, shell
from tests.supervisor.world import PROJECT, World
from tests.support.engine.scripted import Script
from tests.support.https import Site, a_site
from tests.support.spying import spied
from tests.support.sshd import Sshd, an_sshd, key_pair
from tests.support.waiting import until

HERE = "127.0.0.1"
USER, PASSWORD = "ada-of-hub", "s3cret-of-the-store"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "site").mkdir()
    with a_site(tmp_path / "site") as made:
        made.login = (USER, PASSWORD)
        made.repository(
            "team/r.git", {"README": b"1", "src/code": b"git", "src/run": b"#!/bin/sh\necho ran\n"}
        )
        yield made


@pytest.fixture
async def sshd(tmp_path: Path, site: Site) -> AsyncIterator[Sshd]:
    (tmp_path / "sshd").mkdir()
    async with an_sshd(tmp_path / "sshd", site.repositories) as made:
        yield made


def reaching(world: World, site: Site) -> World:
    world.settings = replace(world.settings, fetch_allow=("127.0.0.0/8",), fetch_ca=site.ca)
    return world


async def add_https(world: World, site: Site, password: str | None = PASSWORD, alias: str = "hub") -> None:
    """A store; without a password when that is None."""
    key = await world.ledger.keys.of(PROJECT)
    pair = key.seal(msgspec.json.encode([USER, password]).decode()) if password is not None else None
    await set_store(world, alias, site.url("/private", HERE), GitKeys(basic=pair))


async def add_ssh(world: World, sshd: Sshd, private: str | None = None, alias: str = "deep") -> None:
    """A store that knows the server as it is now."""
    key = await world.ledger.keys.of(PROJECT)
    sealed = key.seal(private or sshd.client.private)
    keys = GitKeys(private_key=sealed, public_key="ssh", host_keys=(sshd.host.public,))
    await set_store(world, alias, sshd.endpoint, keys)


async def set_store(world: World, alias: str, endpoint: str, keys: GitKeys) -> None:
    order = cmd.SetDataStore(project=PROJECT, alias=alias, kind="git", endpoint=endpoint, git=keys)
    await world.order(replace(order, replace=alias in await data_stores(world)))


def of(alias: str, container: str = "team/r.git", path: str = "/git", **more: Any) -> VolumeAsked:
    source = DataStoreAsked(alias=alias, container=container, prefix=more.pop("prefix", None))
    return VolumeAsked(mount_path=path, data_store=source, **more)


async def test_both_ways_in_and_a_target(
    stored_on_docker: World, bucket: Bucket, site: Site, sshd: Sshd, capfd: pytest.CaptureFixture[str]
) -> None:
    """One volume is read, one is the job's own copy, one goes elsewhere; a repository gets nothing."""
    world = reaching(stored_on_docker, site)
    await add_https(world, site)
    await add_ssh(world, sshd)
    elsewhere = DataStoreAsked(alias="local", container=bucket.name)
    volumes = [
        of("hub", "team/r.git#v1", "/a", prefix="src/"),
        of("deep", path="/b", permission="RW"),
        of("deep", path="/c", permission="RW", prefix="src/co", target_data_store=elsewhere),
    ]
    does = shell(
        "cat /a/code /b/README /c/code; sh /a/run; echo new > /c/new; touch /b/x; touch /a/x || echo ro"
    )
    async with world.supervised():
        job = await world.submit(Behaviour(does, Script()), volumes=volumes)
        ended = await world.end(job)
        assert "git1gitran" in (await world.log(job)).replace("\n", ""), ended.info
    assert ended.state is State.DONE
    assert await bucket.holds() == {"code": b"git", "new": b"new\n"}
    assert [(sync.direction, sync.state, len(sync.volumes)) for sync in ended.data_syncs] == [
        ("pull", "DONE", 3),
        ("push", "DONE", 1),
    ]
    assert all(volume.notes[0].startswith("commit ") for volume in ended.data_syncs[0].volumes)
    await nothing_shows(world, sshd, capfd)


async def nothing_shows(world: World, sshd: Sshd, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither the events nor what was logged hold a secret in clear."""
    seen = "".join(capfd.readouterr())
    assert "pull-data" in seen
    for event in await world.events():
        seen += msgspec.json.encode(event.body).decode()
    for secret in (PASSWORD, USER, *sshd.client.private.splitlines()[1:-1]):
        assert secret not in seen


@pytest.mark.parametrize("way", ["https", "ssh"])
async def test_while_it_runs_nobody_sees_the_keys(
    stored_on_fake: World, site: Site, sshd: Sshd, tmp_path: Path, way: str
) -> None:
    world = reaching(stored_on_fake, site)
    reached, go = site.hold_logins("/private/slow/info/refs")
    sshd.hold()
    await add_https(world, site)
    await add_ssh(world, sshd)
    volume = of("hub", "slow") if way == "https" else of("deep")
    async with world.supervised():
        job = await world.submit(RUNS_ON, volumes=[volume])
        try:
            await until(reached.is_set if way == "https" else sshd.is_held, what="the login was taken")
            seen = spied(world.settings.volumes_dir)
            assert {"git", "ssh" if way == "ssh" else "git-remote-http"} <= {each.name for each in seen}
            for secret in (PASSWORD, USER, sshd.client.private.splitlines()[2]):
                assert not [each.name for each in seen if secret.encode() in each.words + each.variables]
        finally:
            go.set()
            sshd.let_go()
        ended = await world.reach(job, State.RUNNING, State.FAILED)
        if way == "ssh":
            await world.kill(job)
    assert ended.state is (State.FAILED if way == "https" else State.RUNNING)


def refused(job: Job, why: str) -> None:
    assert (job.state, job.info.code) == (State.FAILED, "data-pull-refused"), job.info
    assert why in job.info.message
    assert "wr0ng" not in job.info.message
    assert job.started_at is None


async def test_what_cannot_be_had_fails_the_job_and_says_why(
    stored_on_fake: World, site: Site, sshd: Sshd
) -> None:
    world = reaching(stored_on_fake, site)
    await add_https(world, site)
    await add_https(world, site, "wr0ng", alias="wrong")
    await add_https(world, site, None, alias="none")
    for alias in ("deep", "gone", "objects"):
        await add_ssh(world, sshd, alias=alias)
    await add_ssh(world, sshd, key_pair().private, alias="key")
    cases = {
        "the user and this password were refused": of("wrong"),
        "it asks for a user and a password, and the data store has none": of("none"),
        "the user and this key were refused": of("key"),
        "there is no such repository": of("deep", "team/none"),
        "it has no such branch or tag": of("deep", "team/r.git#gone"),
        "it has no such folder": of("hub", prefix="nowhere/"),
        "has no data store gone any more": of("gone"),
        "is of type s3 and holds no repositories": of("objects"),
    }
    jobs = {why: await world.submit(RUNS_ON, volumes=[volume]) for why, volume in cases.items()}
    gone = jobs["has no data store gone any more"]
    await world.kill(gone)
    await world.order(cmd.RemoveDataStore(project=PROJECT, alias="gone"))
    await world.start(gone)
    of_objects = (await data_stores(world))["local"]
    assert of_objects.key_pair is not None
    access, secret = of_objects.key_pair
    order = cmd.SetDataStore(project=PROJECT, alias="objects", endpoint=of_objects.endpoint, replace=True)
    await world.order(replace(order, region="r", access_key=access, secret_key=secret))
    async with world.supervised():
        for why, job in jobs.items():
            refused(await world.end(job, run=2 if job == gone else 1), why)
        folders = [world.volume(job).parent for job in jobs.values()]
        await until(lambda: not any(map(Path.exists, folders)), what="their volumes are removed")


async def test_a_server_with_another_key_is_refused_and_one_that_is_down_is_asked_again(
    stored_on_fake: World, site: Site, sshd: Sshd
) -> None:
    world = reaching(stored_on_fake, site)
    await add_ssh(world, sshd)
    await sshd.change_host_key()
    async with world.supervised():
        refused(
            await world.end(await world.submit(RUNS_ON, volumes=[of("deep")])), "a host key that is not known"
        )
        sshd.stop()
        ended = await world.end(await world.submit(RUNS_ON, volumes=[of("deep")]))
    assert (ended.state, ended.info.code) == (State.FAILED, "data-pull-unavailable")
    assert ended.info.message.startswith("Data store team/r.git@deep could not be used, after 2 attempts")


async def test_a_repository_beyond_the_jobs_storage(stored_on_fake: World, site: Site, sshd: Sshd) -> None:
    world = reaching(stored_on_fake, site)
    catalogue = world.settings.catalogue
    flavors = tuple(replace(each, ephemeral_storage=1024**2) for each in catalogue.flavors)
    world.settings = replace(world.settings, catalogue=replace(catalogue, flavors=flavors))
    await add_ssh(world, sshd)
    site.repository("big", {f"f{number}": b"x" * 1024**2 for number in range(2)})
    async with world.supervised():
        ended = await world.end(await world.submit(RUNS_ON, volumes=[of("deep", "big")]))
    refused(ended, "big@deep: ")
    assert re.search("larger than|more than", ended.info.message)


async def test_home_is_not_fetched_from_unless_allowed(stored_on_fake: World, site: Site, sshd: Sshd) -> None:
    await add_ssh(stored_on_fake, sshd)
    before = sshd.log().count("Connection from")
    async with stored_on_fake.supervised():
        job = await stored_on_fake.submit(RUNS_ON, volumes=[of("deep")])
        refused(await stored_on_fake.end(job), "not a public one")
    assert sshd.log().count("Connection from") == before


async def data_stores(world: World) -> dict[str, DataStore]:
    project = await world.ledger.project(PROJECT)
    return project.data_stores if project else {}


async def test_an_order_pulls_again_with_the_keys_of_now(
    stored_on_fake: World, site: Site, sshd: Sshd
) -> None:
    """A store that was given its server's new key works again; what the job wrote is left alone."""
    world = reaching(stored_on_fake, site)
    await add_ssh(world, sshd)
    async with world.supervised():
        job = await world.submit(RUNS_ON, volumes=[of("deep", permission="RW")])
        await world.reach(job, State.RUNNING)
        (world.volume(job) / "own").write_bytes(b"job")
        (world.volume(job) / "README").unlink()
        await sshd.change_host_key()
        refused = await ordered(world, job, "first")
        assert "host key" in next(sync.message for sync in refused.data_syncs if sync.id == "first")
        await add_ssh(world, sshd)
        await ordered(world, job, "second")
        assert (world.volume(job) / "README").read_bytes() == b"1"
        assert (world.volume(job) / "own").read_bytes() == b"job"
        await world.fake.exit(await world.name(job), 0)
        ended = await world.end(job)
    assert ended.state is State.DONE
    assert [sync.direction for sync in ended.data_syncs] == ["pull"] * 3


async def ordered(world: World, job: Any, name: str) -> Job:
    """Order a pull, and wait for its end."""
    await world.order(cmd.SyncData(project=PROJECT, job=job, sync_id=name, direction="pull"))
    over = ("DONE", "FAILED")
    return await world.when(
        job, lambda known, _: any(s.id == name and s.state in over for s in known.data_syncs), f"{name} over"
    )


async def test_a_server_that_comes_back_is_asked_again(stored_on_fake: World, site: Site, sshd: Sshd) -> None:
    world = reaching(stored_on_fake, site)
    world.settings = replace(world.settings, store_attempts=1000)
    await add_ssh(world, sshd)
    sshd.stop()
    async with world.supervised():
        job = await world.submit(RUNS_ON, volumes=[of("deep")])
        waits = await world.told(job, "data-not-answering")
        assert waits.state is State.INITIALIZING
        await sshd.start()
        await world.reach(job, State.RUNNING)
        await world.kill(job)

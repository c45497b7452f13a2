"""Whole jobs whose volumes come from data stores of type git, over https and over ssh."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Event
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from service.domain import commands as cmd
from service.domain.asked import DataStoreAsked, VolumeAsked
from service.domain.gitstores import GitKeys
from service.domain.job import Job
from service.domain.states import State
from service.supervisor.engine.scripted import Script
from service.supervisor.names import RunId, container_name
from tests.supervisor.bucket import Bucket
from tests.supervisor.lab import RUNS_ON, Behaviour, shell
from tests.supervisor.world import PROJECT, World
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


async def add_https(world: World, site: Site, password: str | None = PASSWORD, user: str = USER) -> None:
    """The store `hub`; without a password when that is None."""
    key = await world.ledger.keys.of(PROJECT)
    pair = key.seal(msgspec.json.encode([user, password]).decode()) if password is not None else None
    await set_store(world, "hub", site.url("/private", HERE), GitKeys(basic=pair))


async def add_ssh(world: World, sshd: Sshd, private: str | None = None, host: str | None = None) -> None:
    """The store `deep`."""
    key = await world.ledger.keys.of(PROJECT)
    sealed = key.seal(private or sshd.client.private)
    keys = GitKeys(private_key=sealed, public_key="ssh", host_keys=(host or sshd.host.public,))
    await set_store(world, "deep", sshd.endpoint, keys)


async def set_store(world: World, alias: str, endpoint: str, keys: GitKeys) -> None:
    project = await world.ledger.project(PROJECT)
    known = project is not None and alias in project.data_stores
    order = cmd.SetDataStore(
        project=PROJECT, alias=alias, kind="git", endpoint=endpoint, git=keys, replace=known
    )
    await world.order(order)


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
    reached, go = Event(), Event()

    def hangs(to: BaseHTTPRequestHandler) -> None:
        if "Authorization" in to.headers:
            reached.set()
            go.wait(60)
        to.send_response(401)
        to.send_header("WWW-Authenticate", 'Basic realm="x"')
        to.send_header("Content-Length", "0")
        to.end_headers()

    site.answers["/private/slow/info/refs"] = hangs
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


@pytest.mark.parametrize(
    ("wrong", "code", "why"),
    [
        ("password", "data-pull-refused", "the user and this password were refused"),
        ("none", "data-pull-refused", "it asks for a user and a password, and the data store has none"),
        ("key", "data-pull-refused", "the user and this key were refused"),
        ("host", "data-pull-refused", "shows a host key that is not known"),
        ("repository", "data-pull-refused", "there is no such repository"),
        ("ref", "data-pull-refused", "it has no such branch or tag"),
        ("prefix", "data-pull-refused", "it has no such folder"),
        ("size", "data-pull-refused", "it has more than 8388608 bytes"),
        ("down", "data-pull-unavailable", "after 2 attempts"),
        ("address", "data-pull-refused", "not a public one"),
        ("gone", "data-pull-refused", "has no data store deep any more"),
        ("objects", "data-pull-refused", "is of type s3 and holds no repositories"),
    ],
)
async def test_what_cannot_be_had_fails_the_job_and_says_why(
    stored_on_fake: World, site: Site, sshd: Sshd, wrong: str, code: str, why: str
) -> None:
    world = stored_on_fake if wrong == "address" else reaching(stored_on_fake, site)
    await add_https(world, site, {"password": "wr0ng", "none": None}.get(wrong, PASSWORD))
    await add_ssh(world, sshd, key_pair().private if wrong == "key" else None)
    volume = {
        "password": of("hub"),
        "none": of("hub"),
        "repository": of("deep", "team/none"),
        "ref": of("deep", "team/r.git#gone"),
        "prefix": of("hub", prefix="nowhere/"),
    }.get(wrong, of("deep"))
    if wrong == "size":
        site.repository("big", {f"f{number}": b"x" * 1024**2 for number in range(12)})
        volume = of("deep", "big")
        flavors = tuple(
            replace(each, ephemeral_storage=8 * 1024**2) for each in world.settings.catalogue.flavors
        )
        world.settings = replace(world.settings, catalogue=replace(world.settings.catalogue, flavors=flavors))
    if wrong == "host":
        await sshd.change_host_key()
    if wrong == "down":
        sshd.stop()
    job = await world.submit(RUNS_ON, volumes=[volume])
    if wrong in ("gone", "objects"):
        await world.order(cmd.RemoveDataStore(project=PROJECT, alias="deep"))
    if wrong == "objects":
        known = (await project_of(world)).data_stores["local"]
        order = cmd.SetDataStore(project=PROJECT, alias="deep", endpoint=known.endpoint, region="r")
        pair = known.key_pair
        assert pair is not None
        await world.order(replace(order, access_key=pair[0], secret_key=pair[1]))
    async with world.supervised():
        ended = await world.end(job)
        await until(lambda: not world.volume(job).parent.exists(), what="the volume is removed")
    assert (ended.state, ended.info.code) == (State.FAILED, code), ended.info
    assert why in ended.info.message or (wrong == "size" and "larger than the volume" in ended.info.message)
    assert "wr0ng" not in ended.info.message
    assert ended.started_at is None


async def project_of(world: World) -> Any:
    return await world.ledger.project(PROJECT)


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
        await world.fake.exit(container_name(RunId(job, 1)), 0)
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
        await world.reach(job, State.INITIALIZING)
        await until(lambda: spied(world.settings.volumes_dir), what="git is at it")
        await sshd.start()
        await world.reach(job, State.RUNNING)
        await world.kill(job)

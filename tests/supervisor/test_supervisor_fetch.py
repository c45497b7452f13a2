"""Whole jobs whose volumes come from a public git repository and a public archive."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from service.domain import commands as cmd
from service.domain.asked import DataStoreAsked, UrlAsked, VolumeAsked
from service.domain.states import State
from tests.supervisor.bucket import Bucket
from tests.supervisor.lab import RUNS_ON, Behaviour, shell
from tests.supervisor.world import PROJECT, World
from tests.support.engine.scripted import Script
from tests.support.https import Site, a_site
from tests.support.waiting import until

HERE = "127.0.0.1"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "site").mkdir()
    with a_site(tmp_path / "site") as made:
        made.repository("r.git", {"code": b"git"})
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz") as tar:
            info = tarfile.TarInfo("d/data")
            info.size = 7
            tar.addfile(info, io.BytesIO(b"archive"))
        made.serve("/a.tar.gz", out.getvalue())
        yield made


def reaching(world: World, site: Site) -> World:
    world.settings = replace(world.settings, fetch_allow=("127.0.0.0/8",), fetch_ca=site.ca)
    return world


def from_git(site: Site, path: str = "/git/r.git", permission: str = "RO") -> VolumeAsked:
    return VolumeAsked(
        mount_path="/git", permission=permission, public_git=UrlAsked(url=site.url(path, HERE))
    )


async def test_both_sources_and_a_target(stored_on_docker: World, bucket: Bucket, site: Site) -> None:
    world = reaching(stored_on_docker, site)
    archive = VolumeAsked(
        mount_path="/data",
        permission="RW",
        public_swift=UrlAsked(url=site.url("/a.tar.gz", HERE)),
        target_data_store=DataStoreAsked(alias="local", container=bucket.name),
    )
    does = shell("cat /git/code /data/d/data; echo new > /data/new; touch /git/x 2>/dev/null && echo bad")
    async with world.supervised():
        job = await world.submit(Behaviour(does, Script()), volumes=[from_git(site), archive])
        ended = await world.end(job)
        assert await world.log(job) == "gitarchive"
    assert await bucket.holds() == {"d/data": b"archive", "new": b"new\n"}
    assert [(sync.direction, sync.state, len(sync.volumes)) for sync in ended.data_syncs] == [
        ("pull", "DONE", 2),
        ("push", "DONE", 1),
    ]
    assert ended.data_syncs[0].volumes[0].notes[0].startswith("commit ")


async def test_an_order_pulls_again_and_leaves_what_the_job_wrote(stored_on_fake: World, site: Site) -> None:
    world = reaching(stored_on_fake, site)
    async with world.supervised():
        job = await world.submit(RUNS_ON, volumes=[from_git(site, permission="RW")])
        await world.reach(job, State.RUNNING)
        (world.volume(job) / "own").write_bytes(b"job")
        (world.volume(job) / "code").unlink()
        await world.order(cmd.SyncData(project=PROJECT, job=job, sync_id="again", direction="pull"))
        await world.when(
            job,
            lambda known, _: any(s.id == "again" and s.state == "DONE" for s in known.data_syncs),
            "pulled again",
        )
        assert (world.volume(job) / "code").read_bytes() == b"git"
        assert (world.volume(job) / "own").read_bytes() == b"job"
        await world.fake.exit(await world.name(job), 0)
        ended = await world.end(job)
    assert ended.state is State.DONE


@pytest.mark.parametrize(
    ("path", "status", "code", "why"),
    [
        ("/git/none", 404, "data-pull-refused", "no such repository"),
        ("/x", 503, "data-pull-unavailable", "503"),
    ],
)
async def test_what_cannot_be_had_fails_the_job_and_says_why(
    stored_on_fake: World, site: Site, path: str, status: int, code: str, why: str
) -> None:
    world = reaching(stored_on_fake, site)
    site.serve(f"{path}/info/refs", b"", status)
    async with world.supervised():
        job = await world.submit(RUNS_ON, volumes=[from_git(site, path)])
        ended = await world.end(job)
        await until(lambda: not world.volume(job).parent.exists(), what="the volume is removed")
    assert (ended.state, ended.info.code) == (State.FAILED, code)
    assert why in ended.info.message
    assert ended.info.message.startswith(f"{HERE}:{site.port}{path}")
    assert ended.info.message.count(f"{HERE}:{site.port}{path}: ") <= 1
    assert ended.started_at is None


async def test_home_is_not_fetched_from_unless_allowed(stored_on_fake: World, site: Site) -> None:
    async with stored_on_fake.supervised():
        job = await stored_on_fake.submit(RUNS_ON, volumes=[from_git(site)])
        ended = await stored_on_fake.end(job)
    assert (ended.state, ended.info.code) == (State.FAILED, "data-pull-refused")
    assert "not a public one" in ended.info.message
    assert site.asked == []

"""Volumes of a project, archives in a data store: what is taken, what a job gets, how it is answered."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from projections.projects import FOLD
from service.api.views import _volume as answered
from service.domain import commands as cmd
from service.domain import events as ev
from service.domain.asked import SourceAsked, VolumeAsked
from service.domain.decide_volume import MOST_VOLUMES
from service.domain.spec import Permission, Place, Volume, Web
from service.domain.states import State
from service.domain.volumes import read_user_volume, read_volumes
from service.errors import Conflict, Invalid, NotFound, QuotaExceeded, Rejected, WrongState
from tests.support import jobs
from tests.support.jobs import PROJECT, SEALED
from tests.support.pure import PureLedger
from tests.support.specification import Specification, folded, given

ID = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"
SHARED = Volume("/data", Permission.RW, user_volume=ID)
STORE = ev.DataStoreSet(
    alias="s3", kind="s3", endpoint="http://s3", region="r", access_key=SEALED, secret_key=SEALED
)
BOX = Place("s3", "box")


def create(volume_id: str = ID, **of: Any) -> cmd.CreateVolume:
    return cmd.CreateVolume(project=PROJECT, volume_id=volume_id, **of)


def made(**of: Any) -> ev.VolumeCreated:
    return ev.VolumeCreated(volume_id=ID, **of)


def submit(*volumes: Volume) -> cmd.SubmitJob:
    command = jobs.submit()
    return replace(command, spec=replace(command.spec, volumes=volumes))


def got(before: Specification, *volumes: Volume) -> tuple[Volume, ...]:
    return before.when(submit(*volumes)).job.spec.volumes


def test_they_are_made_kept_and_deleted() -> None:
    outcome = given(STORE).when(create(source=BOX, cache=True))
    outcome.then(made(source=BOX, cache=True))
    rows = folded(outcome.after.events)
    known = rows.get("projects", PROJECT).volumes[ID]
    assert (known.id, known.source, known.cache, known.created_at) == (ID, BOX, True, known.updated_at)
    after = outcome.after.when(cmd.DeleteVolume(project=PROJECT, volume_id=ID))
    after.then(ev.VolumeDeleted(volume_id=ID))
    assert folded(after.after.events).get("projects", PROJECT).volumes == {}


def test_what_is_refused() -> None:
    given(made()).when(create()).refused(Conflict, "exists already")
    given().when(create(source=BOX)).refused(Invalid, "dataStore.alias: 's3'")
    given().when(cmd.DeleteVolume(project=PROJECT, volume_id=ID)).refused(NotFound, f"no volume {ID}")
    many = [ev.VolumeCreated(volume_id=f"v{number}") for number in range(MOST_VOLUMES)]
    given(*many).when(create()).refused(QuotaExceeded, "may have no more")


@pytest.mark.parametrize(
    ("of", "origin"),
    [
        ({"source": BOX}, BOX),
        ({"git": "https://h.example/r"}, Web("git", "https://h.example/r")),
        ({"url": "https://h.example/a.zip"}, Web("archive", "https://h.example/a.zip")),
        ({}, None),
    ],
)
def test_a_job_gets_what_the_volume_stands_for(of: dict[str, Any], origin: Any) -> None:
    (volume,) = got(given(STORE, made(**of, cache=True)), SHARED)
    assert (volume.pull_from, volume.user_volume, volume.cache) == (origin, ID, True)
    assert volume.shared == (origin is None)
    assert volume.push_to == (BOX if origin == BOX else None)
    assert msgspec.to_builtins(answered(volume)) == {
        "mountPath": "/data",
        "permission": "RW",
        "cache": True,
        "userVolumeId": ID,
    }


def test_what_a_job_may_not_name() -> None:
    given().when(submit(SHARED)).refused(Invalid, f"volumes[0].userVolumeId: '{ID}'")
    target = replace(SHARED, target=BOX)
    given(STORE, made()).when(submit(target)).refused(Invalid, "volumes[0].targetDataStore")
    zipped = made(source=replace(BOX, archive="a.zip"))
    given(STORE, zipped).when(submit(SHARED)).refused(Invalid, "volumes[0].dataStore.archive")
    assert got(given(STORE, zipped), replace(SHARED, permission=Permission.RO))[0].source == zipped.source
    gone = given(STORE, made(source=BOX), ev.DataStoreRemoved(alias="s3"))
    gone.when(submit(SHARED)).refused(Invalid, "volumes[0].dataStore.alias")


def test_a_job_does_not_start_again_without_its_volume() -> None:
    outcome = given(made()).when(submit(SHARED)).after.when(jobs.kill())
    assert outcome.job.state is State.INTERRUPTED
    assert outcome.after.when(jobs.start()).job.state is State.QUEUED
    gone = outcome.after.when(cmd.DeleteVolume(project=PROJECT, volume_id=ID)).after
    gone.when(jobs.start()).refused(WrongState, f"volume {ID} at /data was deleted")


def read(**fields: Any) -> Volume:
    return read_volumes([msgspec.convert({"mountPath": "/v", "permission": "RO"} | fields, VolumeAsked)])[0]


def test_a_job_names_one_by_its_id() -> None:
    assert read(userVolumeId=ID.upper()).user_volume == ID
    for more in ({"userVolumeId": "x"}, {"userVolumeId": ID, "standalone": {}}):
        with pytest.raises(Invalid) as refused:
            read(**more)
        assert refused.value.field == "volumes[0].userVolumeId"


@pytest.mark.parametrize(
    ("source", "cache", "cached"),
    [
        ({"dataStore": {"alias": "s3", "container": "box"}}, None, True),
        ({"dataStore": {"alias": "s3", "container": "box"}}, False, False),
        ({"privateSwift": {"region": "s3", "container": "box"}}, None, True),
        ({"publicSwift": {"url": "https://h.example/a"}}, None, True),
        ({"publicGit": {"url": "https://h.example/a"}}, None, False),
        ({"publicGit": {"url": "https://h.example/a"}}, False, False),
        ({"standalone": {}}, None, False),
    ],
)
def test_which_are_cached(source: dict[str, Any], cache: bool | None, cached: bool) -> None:
    assert read_user_volume(msgspec.convert(source, SourceAsked), cache)[1] is cached


@pytest.mark.parametrize(
    ("source", "cache", "field"),
    [
        ({"publicGit": {"url": "https://h.example/a"}}, True, "cache"),
        ({"standalone": {}}, True, "cache"),
        ({}, None, "dataStore"),
        ({"standalone": {}, "publicGit": {"url": "https://h.example/a"}}, None, "dataStore"),
        ({"dataStore": {"alias": "/", "container": "box"}}, None, "dataStore.alias"),
        ({"privateSwift": {"region": "/", "container": "box"}}, None, "privateSwift.region"),
        ({"publicGit": {"url": "http://h"}}, None, "publicGit.url"),
        ({"publicSwift": {"url": "http://h"}}, None, "publicSwift.url"),
    ],
)
def test_which_are_refused(source: dict[str, Any], cache: bool | None, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        read_user_volume(msgspec.convert(source, SourceAsked), cache)
    assert refused.value.field == field


# -- archives ---------------------------------------------------------------------------------------


def archive(key: str, **more: Any) -> dict[str, Any]:
    return {"alias": "s3", "container": "box"} | {"archive": key} | more


@pytest.mark.parametrize("key", ["a.tar", "d/a.tar.gz", "a.tgz"])
@pytest.mark.parametrize("permission", ["RO", "RW", "RWD"])
def test_archives_are_answered_as_they_were_asked(key: str, permission: str) -> None:
    volume = read(dataStore=archive(key), permission=permission)
    assert volume.source == replace(BOX, archive=key)
    told = msgspec.to_builtins(answered(volume))
    assert told["dataStore"] == archive(key)
    assert read_volumes([msgspec.convert(told, VolumeAsked)]) == (volume,)
    swift = {"region": "s3", "container": "box", "archive": key}
    assert read(privateSwift=swift, permission=permission) == volume


def test_an_archive_that_is_only_read_has_any_name() -> None:
    read(dataStore=archive("a.zip"))
    read(dataStore=archive("a.zip"), permission="RW", targetDataStore=archive("a.tar"))


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"dataStore": archive("a.zip"), "permission": "RW"}, "dataStore.archive"),
        ({"dataStore": archive("a.tar.zst"), "permission": "RWD"}, "dataStore.archive"),
        (
            {"standalone": {}, "permission": "RW", "targetDataStore": archive("a.xz")},
            "targetDataStore.archive",
        ),
        ({"dataStore": archive("a.tar", prefix="p/")}, "dataStore.prefix"),
        *(
            ({"dataStore": archive(key)}, "dataStore.archive")
            for key in ("/a", "a/", "a//b", "../a", "a/./b", "a\nb", "a\x7f", "é" * 128, "x/" * 600)
        ),
    ],
)
def test_archives_that_are_refused(asked: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as refused:
        read(**asked)
    assert refused.value.field == f"volumes[0].{field}"


def test_old_rows_of_projects_read_as_having_none() -> None:
    row = b'{"id":"p","name":"P","createdAt":"2026-01-01T00:00:00Z","dataStores":{},"registries":{}}'
    assert msgspec.json.decode(row, type=FOLD.row).volumes == {}


@pytest.mark.parametrize(
    "volume",
    [
        Volume("/d", Permission.RO, source=BOX),
        Volume("/d", Permission.RW, target=BOX),
        Volume("/d", Permission.RW),
    ],
)
def test_a_store_is_not_removed_under_a_job_of_the_same_commit(volume: Volume) -> None:
    yard = PureLedger()
    yard.commit([cmd.CreateProject(project=PROJECT, name="P", cpu=99, gpu=99)])
    yard.commit([cmd.SetPrices(prices={jobs.submit().spec.resources.flavor: Decimal(1)}, currency="EUR")])
    add = cmd.SetDataStore(
        project=PROJECT, alias="s3", endpoint="http://s3", region="r", access_key=SEALED, secret_key=SEALED
    )
    yard.commit([add])
    remove = cmd.RemoveDataStore(project=PROJECT, alias="s3")
    submitted, removed = yard.commit([submit(volume), remove])
    assert not isinstance(submitted, Rejected)
    assert isinstance(removed, WrongState) == bool(volume.stores)
